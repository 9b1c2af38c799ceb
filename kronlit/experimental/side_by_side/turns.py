"""Taking turns: threads of which one runs at a time, so that what runs alone elsewhere can run beside others here."""

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
    """What a process has one of and each member must have for itself.

    These are the states of random numbers, Lightning's seed, the words of the command, and where output goes.
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
        """Those of the process at this moment."""
        seed = os.environ.get(SEED)
        numbers = random_state(), numpy.random.get_state(), random.getstate()
        return cls(*numbers, seed, sys.argv, sys.stdout, sys.stderr)

    def enter(self) -> None:
        """Make these those of the process."""
        restore_random_state([self.torch], 0)
        numpy.random.set_state(self.numpy)
        random.setstate(self.python)
        os.environ.pop(SEED, None)
        if self.seed is not None:
            os.environ[SEED] = self.seed
        sys.argv, sys.stdout, sys.stderr = self.words, self.out, self.error


class Turns:
    """Members, each a function in a thread of its own, of which one runs at a time.

    A member runs until it comes to `meet`, or to its end. When all that are left have come, one of them serves all.

    Args:
        members: what they do; what each gives is its result.
        logs: where each writes what it prints.
        serve: answers what all ask at once, by member; an answer that is an error is raised where it was asked for.
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
        """Run all members to their ends and give their results; of one that raised an error, `None`."""
        # Daemons, so that Ctrl-C to the main thread ends them all.
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
        except BaseException:  # of one member; the others go on
            with suppress(Exception):  # a disk may be full
                traceback.print_exc()  # while output is its own
        finally:
            self._left.remove(me)
            self._asked.pop(me, None)
            if self._left:
                self._may_run[self._next()].release()

    def meet(self, request: Any) -> Any:
        """Wait until all that are left have come here, and get the answer to one's request."""
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
        """The first that can go on by itself, else the first of all, to serve."""
        return next((i for i in self._left if i not in self._asked), self._left[0])
