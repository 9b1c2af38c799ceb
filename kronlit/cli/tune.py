"""The command `kronlit tune`: searches the learning rate, or whatever is named, of one `kronlit fit`."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from kronlit.cli.study import run_search
from kronlit.config.aliases import check_configs
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError
from kronlit.config.words import values_of
from kronlit.studies.best import draw_scores, trial_table, write_best
from kronlit.studies.cell_search import CellSearch
from kronlit.studies.given import look_up
from kronlit.studies.process import run_command
from kronlit.studies.search import FitSearch
from kronlit.studies.study import Options, Setting, Study
from kronlit.studies.tune import Tune, grid_points

SKIPPED = {"search", "method_search", "options"}
"""Fields of `Tune` that are given otherwise: a search by `--search.OPTION`, options as those of `kronlit fit`."""
HOW = ("dir", "processes", "side_by_side", "gpus", "retry_failed", "dry_run")
OWN = {*HOW, *(field.name for field in fields(Tune))} - SKIPPED
SET_HERE = ("run_dir", "ckpt_path", "stop_after_epochs", "test_after_fit", "seed_everything")


def tune_command(words: list[str]) -> None:
    """Run the words after `kronlit tune`."""
    with one_line():
        check_configs()
        own, searched, rest = split_words(words)
        config = tune_parser().parse_args(own)
        if taken := [name for word in rest if (name := word.split("=")[0].removeprefix("--")) in SET_HERE]:
            cure = "give `seeds`" if taken[0] == "seed_everything" else "leave it out"
            raise UserError(f"`{taken[0]}` is what `kronlit tune` sets: {cure}.")
        if not values_of(rest, "--config", "-c"):
            raise UserError("`config` is missing: `kronlit tune --config FILE.yaml`.")
        given: dict[str, Any] = {field.name: config[field.name] for field in fields(Tune) if field.name in OWN}
        tune = Tune(**given | ({"search": searched} if searched else {}))
        tune_fit(config, tune, rest, shlex.join(["kronlit", "tune", *words]))


def tune_parser() -> ArgumentParser:
    """The parser of the options of a search."""
    description = (
        "Search the learning rate of a `kronlit fit` by its validation scores; test rows are not read. It takes all "
        "options of `kronlit fit`. `--search.OPTION 1 2 4` searches those values of an option, and "
        "`--search.OPTION '{low: 1e-4, high: 3e-2}'` a range; several such options are searched together. The config's "
        "own value is always tried. The result is best.yaml in the folder: `kronlit fit --config FILE.yaml --config "
        "best.yaml`. After a kill, the same command goes on."
    )
    parser = Parser(prog="kronlit tune", description=description, usage="kronlit tune --config FILE.yaml ...")
    parser.add_class_arguments(Tune, skip=SKIPPED)
    add = parser.add_argument
    add("--dir", type=str | None, help="The search's folder; by default runs/tune/ and the config's name.")
    add("--processes", type=int, default=1, help="Runs at once; they share the cores.")
    add("--side_by_side", type=int, default=1, help="Train up to this many runs in one process, as `kronlit study`.")
    add("--gpus", type=list[int] | None, help="Devices to use, one for each run; by default the trainer chooses.")
    add("--retry_failed", type=bool, default=False, help="Run failed runs again, from their last checkpoints.")
    add("--dry_run", type=bool, default=False, help="Print the first commands and run none.")
    return parser


def split_words(words: Sequence[str]) -> tuple[list[str], Options, list[str]]:
    """Split the words into those of the search, the values of each `--search.OPTION`, and those of the fit."""
    own: list[str] = []
    rest: list[str] = []
    searched: Options = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        option, equals, value = word.partition("=")
        name = option.removeprefix("--")
        if word in ("-h", "--help"):
            own.append(word)
        elif name.startswith("search.") and name != option:
            values = [value] if equals else []
            while not equals and waiting and not waiting[0].startswith("--"):
                values.append(waiting.pop(0))
            searched[name.removeprefix("search.")] = read_values(name, values)
        elif name in OWN and name != option:
            own.append(word)
            while not equals and waiting and not waiting[0].startswith("--"):
                own.append(waiting.pop(0))
        else:
            rest.append(word)
    return own, searched, rest


def read_values(name: str, words: list[str]) -> Any:
    """The values of a `--search.OPTION`: a list, a range, or several words."""
    try:
        values = [yaml.safe_load(word) for word in words]
    except yaml.YAMLError as error:
        raise UserError(f"`{name}`={' '.join(words)!r} is no YAML: {str(error).splitlines()[0]}.") from error
    return values[0] if len(values) == 1 and isinstance(values[0], (list, dict)) else values


def tune_fit(config: Any, tune: Tune, words: list[str], command: str) -> None:
    """Search, print the trials, and write the best point."""
    for name in ("processes", "side_by_side"):
        if config[name] < 1:
            raise UserError(f"`{name}`={config[name]} must be at least 1.")
    name = "-".join(Path(path).stem for path in values_of(words, "--config", "-c"))
    root = Path(config.dir or Path("runs", "tune", name))
    whole = whole_config(words)
    own = own_values(whole, tune)
    if tune.sampler == "grid":
        tune.check_trials(name, len(grid_points(CellSearch(tune, "validation", name, 1, own).values)))
    study = Study({name: settings_of(words)}, ["validation"], seeds=[max(tune.seeds) + 1], tune=tune)
    searches = FitSearch(study, root, None, config.processes, config.side_by_side, config.retry_failed, own)
    searches.set_epochs(look_up(whole, ["trainer", "max_epochs"]))
    if config.dry_run:
        for run in searches.first():
            print(shlex.join(run_command(run, root)))
        return
    (cell,) = run_search(searches, config.gpus)
    if not cell.chosen:
        sys.exit(1)
    print(trial_table(cell, own))
    path = write_best(root, cell, own, command)
    if drawn := draw_scores(root, cell):
        print(f"the scores, drawn: {drawn}")
    print(f"{shlex.join(['kronlit', 'fit', *words, '--config', str(path)])}  # trains the best")


def settings_of(words: list[str]) -> Setting:
    """The words of a fit as the settings of a study's method."""
    settings: list[str | Options] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        option, equals, value = word.partition("=")
        if not option.startswith("-"):
            raise UserError(f"{word!r} is no option: options begin with --.")
        if not equals and not waiting:
            raise UserError(f"`{option.removeprefix('--')}` has no value.")
        value = value if equals else waiting.pop(0)
        settings.append(value if option in ("-c", "--config") else {option.removeprefix("--"): value})
    return settings


def whole_config(words: list[str]) -> dict[str, Any]:
    """The config of a fit with all defaults. Mistakes in it are printed, and end this process.

    It is made by a process of its own, so that this one needs no torch.
    """
    made = subprocess.run(
        [sys.executable, "-m", "kronlit", "fit", *words, "--print_config"], capture_output=True, text=True
    )
    if made.returncode:
        print(made.stderr or made.stdout, end="", file=sys.stderr)
        sys.exit(made.returncode)
    config: dict[str, Any] = yaml.safe_load(made.stdout)
    return config


def own_values(config: dict[str, Any], tune: Tune) -> Options:
    """The value that the config has for each option of a search.

    Raises:
        ValueError: if there is no such option.
    """
    own = {}
    for option in tune.search:
        names = option.replace("init_args.", "").split(".")
        above = look_up(config, names[:-1])
        inner = above.get("init_args", above) if isinstance(above, dict) else {}
        if not isinstance(inner, dict) or names[-1] not in inner:
            raise UserError(
                f"`search.{option}`: the config has no option {option!r}; `kronlit fit --help_all` lists them."
            )
        value = inner[names[-1]]
        own[option] = value.get("class_path", value) if isinstance(value, dict) else value
    return own
