"""Runs several `kronlit fit` as threads of one process, and computes their training passes as one."""

import functools
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from kronlit.cli.fit import CLI, command_line, prepare
from kronlit.config.aliases import check_configs
from kronlit.config.mistakes import one_line
from kronlit.config.user_error import UserError
from kronlit.experimental.side_by_side.passes import Group, SideBySide
from kronlit.experimental.side_by_side.turns import Turns
from kronlit.modules.resumption import FIXED


def side_by_side_command(commands: Sequence[tuple[list[str], str, str]]) -> None:
    """Run `kronlit fit` commands side by side.

    Args:
        commands: for each, the words after `kronlit`, the log file to append its output to, and the file for its exit
            code.
    """
    prepare()
    group = Group()
    members = [functools.partial(run_and_write_code, words, group, Path(code)) for words, _, code in commands]
    with ExitStack() as files:
        logs = [
            files.enter_context(Path(log).open("a", buffering=1, encoding="utf-8", errors="backslashreplace"))
            for _, log, _ in commands
        ]
        group.turns = Turns(members, logs, group.serve)
        group.turns.run()


def run_and_write_code(words: list[str], group: Group, file: Path) -> None:
    """Run one command and write its exit code, which is 1 for a fault of the code."""
    code = 1
    try:
        code = fit(words, group)
    finally:
        file.write_text(f"{code}\n")


def fit(words: list[str], group: Group) -> int:
    """Run one command and return its exit code."""

    class Member(CLI):
        """A command line whose trainer trains together with those of the group."""

        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = self.config_init[self.subcommand].trainer
            trainer.callbacks = [
                *(trainer.callbacks or []),
                SideBySide(group, loss_settings(self.config[self.subcommand])),
            ]
            made = super().instantiate_trainer(**kwargs)
            if made.world_size > 1:
                raise UserError(
                    f"`trainer.devices`: runs side by side train on one device, not on {made.world_size}; set "
                    "`trainer.devices` to 1, or leave out `side_by_side`."
                )
            return made

    sys.argv = ["kronlit", *words]
    try:
        with one_line():
            check_configs()
            command_line(Member)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def loss_settings(config: Any) -> str:
    """The settings that the loss depends on, as text: runs can be joined only if theirs are equal."""
    model = config.model.as_dict()
    arguments = {
        name: value for name, value in model["init_args"].items() if name not in FIXED
    }  # each has its own optimizer
    data = config.data.as_dict()
    task = data["init_args"].get("task"), data["class_path"]
    return repr((model["class_path"], arguments, task, config.trainer.precision, config.compile_layers, config.below))
