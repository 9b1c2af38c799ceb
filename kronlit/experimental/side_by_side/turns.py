"""Threads that take turns: only one runs at a time, so that code which expects to run alone can run beside others."""

import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TextIO

import numpy

from kronlit.modules.random_state import random_state, restore_random_state

SEED = "PL_GLOBAL_SEED"  # where Lightning keeps the seed of the process


@dataclass
class Surroundings:
    """The global state of the process that each member needs for itself.

    It is the state of the random number generators, Lightning's seed, the words of the command, and the output streams.
    """

    torch: dict[str, Any]
    numpy: Any
    python: Any
    seed: str | None
    words: list[str]
    out: TextIO
    error: TextIO

    @classmethod
    def now(cls) -> "Surroundings":
        """The present state of the process."""
        seed = os.environ.get(SEED)
        numbers = random_state(), numpy.random.get_state(), random.getstate()
        return cls(*numbers, seed, sys.argv, sys.stdout, sys.stderr)

    def enter(self) -> None:
        """Set the state of the process to this one."""
        restore_random_state([self.torch], 0)
        numpy.random.set_state(self.numpy)
        random.setstate(self.python)
        os.environ.pop(SEED, None)
        if self.seed is not None:
            os.environ[SEED] = self.seed
        sys.argv, sys.stdout, sys.stderr = self.words, self.out, self.error


class Turns:
    """Runs functions, the members, each in its own thread and only one at a time.

    A member runs until it calls `meet` or ends. When all remaining members wait in `meet`, one of them serves all.

    Args:
        members: the functions; they return the results.
        logs: the file for each member's output.
        serve: computes the answers to all requests, both by member. An answer that is an error is raised in `meet`.
    """

    def __init__(
        self,
        members: Sequence[Callable[[], Any]],
        logs: Sequence[TextIO],
        serve: Callable[[dict[int, Any]], dict[int, Any]],
    ) -> None:
        self._members = members
        self._serve = serve
        here = Surroundings.now()
        self.surroundings = [replace(here, out=log, error=log) for log in logs]
        self._may_run = [threading.Semaphore(0) for _ in members]
        self._left = list(range(len(members)))
        self._asked: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}
        self._results: list[Any] = [None] * len(members)
        self._own = threading.local()

    def run(self) -> list[Any]:
        """Run all members to the end and return their results; `None` for one that raised an error."""
        # Daemon threads, so that Ctrl-C in the main thread ends them all.
        threads = [threading.Thread(target=self._live, args=(i,), daemon=True) for i in self._left]
        before = Surroundings.now()
        for thread in threads:
            thread.start()
        if threads:
            self._may_run[0].release()
        for thread in threads:
            thread.join()
        before.enter()
        return self._results

    def _live(self, me: int) -> None:
        self._own.index = me
        self._may_run[me].acquire()
        self.surroundings[me].enter()
        try:
            self._results[me] = self._members[me]()
        except BaseException:  # an error of one member does not stop the others
            with suppress(Exception):  # the disk may be full
                traceback.print_exc()  # now, while stderr is this member's log
        finally:
            self._left.remove(me)
            self._asked.pop(me, None)
            if self._left:
                self._may_run[self._next()].release()

    def meet(self, request: Any) -> Any:
        """Wait until all remaining members have called this, and return the answer to `request`."""
        me: int = self._own.index
        self._asked[me] = request
        while me not in self._answers:
            other = self._next()
            if other == me:
                self.surroundings[me] = Surroundings.now()
                answers = self._serve(dict(self._asked))
                self.surroundings[me].enter()
                self._answers.update(answers)
                self._asked.clear()
            else:
                self.surroundings[me] = Surroundings.now()
                self._may_run[other].release()
                self._may_run[me].acquire()
                self.surroundings[me].enter()
        answer = self._answers.pop(me)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _next(self) -> int:
        """The first member that can run on; if all of them wait in `meet`, the first one, which then serves."""
        return next((i for i in self._left if i not in self._asked), self._left[0])
