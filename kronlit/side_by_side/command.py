"""Several `kronlit fit` in one process, each a thread, whose training passes are computed as one."""

import functools
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from kronlit.aliases import check_configs
from kronlit.cli import CLI, command_line, prepare
from kronlit.errors import one_line
from kronlit.side_by_side.passes import Group, SideBySide
from kronlit.side_by_side.turns import Turns
from kronlit.signals import listen


def main(commands: list[tuple[list[str], str]]) -> list[int | None]:
    """Run `kronlit fit` commands side by side and give their exit codes; `None` is that of a fault of the code.

    Args:
        commands: the words of each after `kronlit`, and the file to which it adds what it prints.
    """
    listen()
    prepare()
    group = Group()
    members = [functools.partial(fit, words, group) for words, _ in commands]
    with ExitStack() as files:
        logs = [files.enter_context(Path(log).open("a", buffering=1, encoding="utf-8")) for _, log in commands]
        group.turns = Turns(members, logs, group.serve)
        return group.turns.run()


def fit(words: list[str], group: Group) -> int:
    """Run one command and give its exit code."""

    class Member(CLI):
        """A command line whose trainer trains with those of the group."""

        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = self.config_init[self.subcommand].trainer
            trainer.callbacks = [*(trainer.callbacks or []), SideBySide(group)]
            return super().instantiate_trainer(**kwargs)

    sys.argv = ["kronlit", *words]
    try:
        with one_line():
            check_configs()
            command_line(Member)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
