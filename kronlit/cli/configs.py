"""`kronlit configs`: the YAMLs that come with kronlit, to look at, copy and check. Their help needs no torch."""

import contextlib
import io
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from kronlit.cli.short_help import table
from kronlit.config.explain import nearest_config
from kronlit.config.files import read_yaml
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.shipped import config_path, shipped_folder
from kronlit.config.user_error import UserError


def configs_command(words: list[str]) -> None:
    """Run the words after `kronlit configs`."""
    parser = Parser(prog="kronlit configs", description="The YAMLs that come with kronlit.")
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand(
        "list", Parser(description="Print their names and first lines."), help="print what there is"
    )
    copy = Parser(description="Copy one, or a folder of them, to change it.")
    copy.add_argument("name", type=str, help="A name that `list` prints, or a folder; `.` for all.")
    copy.add_argument("--output", type=str | None, help="Where to; by default here, under its own name.")
    commands.add_subcommand("copy", copy, help="start one of your own")
    check = Parser(description="Check YAMLs without running anything or loading a model.")
    check.add_argument("files", type=str, nargs="+", help="As `kronlit fit` would put them together; or one study.")
    commands.add_subcommand("check", check, help="check without running")
    with one_line():
        config = parser.parse_args(words or ["list"])
        if config.command == "list":
            print(list_configs())
        elif config.command == "copy":
            print(f"wrote {copy_config(config.copy.name, config.copy.output)}")
        else:
            print(check_config(config.check.files))


FIRST = ("quickstart", "own_rows", "quickstart_llm")
"""What one looks for first."""
GROUPS = {
    "": "to start with, and papers' rows",
    "bases": "what the runs of a paper share; a method comes on top",
    "jobs": "other jobs on rows of your own",
    "methods": "methods with their papers' values, on top of a base",
    "slurm": "jobs of Slurm, for `kronlit submit`",
    "studies": "many runs and one table, for `kronlit study`",
}


def list_configs() -> str:
    """The names of all shipped YAMLs by folder, each with the sentence that its header begins with."""
    groups: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    for path in sorted(shipped_folder().rglob("*.yaml"), key=lambda path: (path.stem not in FIRST, path)):
        name = path.relative_to(shipped_folder()).as_posix()
        groups.setdefault(name.rpartition("/")[0], {})[name] = first_sentence(path.read_text(encoding="utf-8"))
    groups[""] = {f"{name}.yaml": groups[""].pop(f"{name}.yaml") for name in FIRST} | groups[""]
    return "\n\n".join(f"{GROUPS.get(group, group)}\n{table(names)}" for group, names in groups.items())


def first_sentence(text: str) -> str:
    """The sentence with which the header of a YAML begins."""
    header = " ".join(line.lstrip("# ") for line in text.split("\n\n")[0].splitlines() if line.startswith("#"))
    header = re.split(r" kronlit (?:fit|study|submit) ", header, maxsplit=1)[0]
    return re.split(r"(?<=[.])(?<!al\.) (?=[A-Z`])", header, maxsplit=1)[0]


def copy_config(name: str, output: str | None) -> Path:
    """Copy a YAML or a folder of them, and return the path of the copy.

    Raises:
        ValueError: if there is no YAML of this name, or the target exists already.
    """
    source = shipped_folder() / name
    if not source.exists():  # `list` prints names with their suffix, `--config` needs none
        source = shipped_folder() / f"{name.removeprefix('configs/').removesuffix('.yaml')}.yaml"
    if not source.exists() or not source.resolve().is_relative_to(shipped_folder().resolve()):
        hint = nearest_config(name)
        raise UserError(f"`name`={name!r} is none of the YAMLs that `kronlit configs list` prints{hint}")
    target = Path(output or source.resolve().name)
    if target.exists():
        raise UserError(f"`output`={str(target)!r} exists already, and nothing is overwritten: give another name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    except OSError as error:
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        elif target.is_file():
            target.unlink()
        reason = error.strerror or "; ".join(str(why) for _, _, why in error.args[0])  # copytree's of several files
        raise UserError(f"`output`={str(target)!r} cannot be written: {reason}; name another place.") from error
    return target


def check_config(files: list[str]) -> str:
    """Check YAMLs and describe them in a line. A wrong one ends as it would in `fit` or `study`."""
    files = [config_path(file) for file in files]
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"`files`: {file!r} is no file{nearest_config(file)}")
    if {"methods", "tasks"} <= read_yaml(files[0], f"`files`: {files[0]!r}").keys():
        from kronlit.cli.study import count_runs

        return f"{files[0]}: right, a study of {count_runs(files[0])} runs"
    from kronlit.exchange.saved_run import module_from_config

    module = module_from_config(merged_config(files))
    method, task = type(module.method).__name__, module.task.name
    return f"{', '.join(files)}: right, {method} on {module.plm} for {task}"


def merged_config(files: list[str]) -> dict[str, Any]:
    """The merged config of YAMLs, made by the command line itself: later files win, defaults fill the rest."""
    return fit_config([word for file in files for word in ("--config", file)])


def fit_config(words: list[str]) -> dict[str, Any]:
    """The config of `kronlit fit` with some words, with all defaults. A wrong one ends as it would in `fit`."""
    from kronlit.cli.fit import trainer_command

    argv, out = sys.argv, io.StringIO()
    sys.argv = ["kronlit", "fit", *words, "--print_config"]
    try:
        with contextlib.redirect_stdout(out):
            trainer_command()
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv = argv
    config: dict[str, Any] = yaml.safe_load(out.getvalue())
    return config
