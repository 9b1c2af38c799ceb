"""The commands `kronlit study` and `kronlit study report`."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from kronlit.cli.fit_options import check_options
from kronlit.config.aliases import check_aliases, check_configs
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError
from kronlit.slurm.job import Job
from kronlit.studies.chosen import tuned_study
from kronlit.studies.execute import execute, write_study
from kronlit.studies.plan import plan, point_name, select_runs
from kronlit.studies.process import run_command
from kronlit.studies.report.write import ending, report
from kronlit.studies.result import Result
from kronlit.studies.search import StudySearch, search
from kronlit.studies.study import Published, Study
from kronlit.studies.tune import Tune
from kronlit.studies.tuned import TunedCell
from kronlit.studies.worth import worth
from kronlit.training.signals import INTERRUPTED, STOPPED, TERMINATED, stop_requested


def study_command(words: list[str]) -> None:
    """Run the words after `kronlit study`."""
    with one_line():
        check_configs()
        if words[:1] == ["report"]:
            print(report_study(words[1:]), end="")
        else:
            run_study(words)


class StudyParser(Parser):
    """A parser that reads `--options.data.path X` as the option `data.path` of every run.

    jsonargparse would take it for the key `path` within the option `data`, and so replace the data's class.
    """

    def parse_args(self, args: list[str], **kwargs: Any) -> Namespace:
        given, rest, waiting = {}, [], list(args)
        while waiting:
            word = waiting.pop(0)
            name, equals, value = word.partition("=")
            if name.startswith("--options.") and (equals or waiting):
                given[name.removeprefix("--options.")] = yaml.safe_load(value if equals else waiting.pop(0))
            else:
                rest.append(word)
        config: Namespace = super().parse_args(rest, **kwargs)
        config.options |= given
        return config


def study_parser() -> ArgumentParser:
    """The parser of a study's YAML, and of the options of how to run it."""
    description = (
        "Run tasks x methods x a grid x seeds; each run is a `kronlit fit`. After a kill, the same command resumes. "
        "`kronlit study report DIR` writes the report."
    )
    parser = StudyParser(prog="kronlit study", description=description)
    parser.add_argument("--config", action=ActionConfigFile, help="A study, as in configs/studies.")
    parser.add_class_arguments(Study)
    add = parser.add_argument
    add("--dir", type=str | None, help="The study's folder; by default runs/studies/ and the config's name.")
    add("--processes", type=int, default=1, help="Runs at once; they share the cores.")
    add(
        "--side_by_side",
        type=int,
        default=1,
        help="Train up to this many runs in one process, as one batch over one frozen model. They share task and "
        "method, and differ by seed, learning rate, weight decay or warm-up. Each gets the same result as alone. This "
        "pays if batches are too small to keep the device busy.",
    )
    add("--gpus", type=list[int] | None, help="Devices to use, one for each run; by default the trainer chooses.")
    add("--retry_failed", type=bool, default=False, help="Run failed runs again, from their last checkpoints.")
    add("--dry_run", type=bool, default=False, help="Print the commands and run none.")
    add(
        "--only",
        type=str,
        nargs="+",
        help="Run only these: METHOD/TASK as the study names them, with * for any, such as 'KronA/*'.",
    )
    add("--run", type=int | None, help="Run only this one, numbered from 0 as in --dry_run; others may run meanwhile.")
    add("--slurm", type=Job | None, help="Read by `kronlit submit study` alone.")
    return parser


def run_study(words: list[str]) -> None:
    """Run a study and print its scores. The exit code is 1 if a run failed."""
    parser = study_parser()
    config = parser.parse_args(words)
    study = study_from_config(config)
    root = study_folder(config)
    if config.processes < 1:
        raise UserError(f"`processes`={config.processes} must be at least 1.")
    if config.side_by_side < 1:
        raise UserError(f"`side_by_side`={config.side_by_side} must be at least 1.")
    if study.tune and config.run is not None:
        raise UserError(
            f"`run`={config.run}: a study with `tune` decides as it goes what runs next; leave out `run`, or name "
            "METHOD/TASK with `only`."
        )
    if config.dry_run:
        dry_run(study, root, config.only)
        return
    if config.run is None:
        first = StudySearch(study, root, config.only).first() if study.tune else []
        check_options([*select_runs(plan(study), config.only), *first], root)
    if line := worth(study):
        print(line, flush=True)
    searches = StudySearch(study, root, *search_options(config)) if study.tune else None
    found = run_search(searches, config.gpus, study) if searches else []
    with stopping():
        results = execute(
            study,
            root,
            config.processes,
            config.gpus,
            config.retry_failed,
            config.run,
            config.side_by_side,
            config.only,
        )
    stop_if_asked(results)
    study = tuned_study(study, root)
    print(ending(study, root))
    print(f"kronlit study report {shlex.quote(str(root))}  # writes this with plots: Markdown, LaTeX, CSV, HTML")
    if bad := sum(result.status == "failed" for result in results):
        print(f"kronlit: {bad} runs failed; --retry_failed true runs them again.", file=sys.stderr)
    if bad or not all(cell.chosen for cell in found):
        sys.exit(1)


def dry_run(study: Study, root: Path, only: list[str] | None) -> None:
    """Print the commands of a study; of one with `tune` those that its search begins with."""
    runs = select_runs(plan(study), only)
    if study.tune:
        for one in StudySearch(study, root, only).first():
            one.config_hash()
            print(shlex.join(run_command(one, root)))
        longer = "then the best of these for more epochs, " if study.tune.halving > 1 else ""
        print(f"# {longer}then the best point of each method on each task with seeds {study.seeds}: {len(runs)} runs")
        return
    for one in runs:
        one.config_hash()  # reads the config files, and so finds those that are missing
        print(shlex.join(run_command(one, root)))


def search_options(config: Namespace) -> tuple[list[str] | None, int, int, bool]:
    """The options of a command line that a search takes."""
    return config.only, config.processes, config.side_by_side, config.retry_failed


def run_search(searches: StudySearch, gpus: list[int] | None, study: Study | None = None) -> list[TunedCell]:
    """Search, and say what failed altogether and what lies at an edge. A search that is asked to stop ends here."""
    if study is not None:
        searches.root.mkdir(parents=True, exist_ok=True)
        write_study(study, searches.root)
    with stopping():
        found = search(searches, gpus)
    if not all(cell.over for cell in searches.cells):
        stop()
    for number, cell in enumerate(found):
        name = f"{cell.method} on {cell.task}"
        if not cell.chosen:
            print(f"kronlit: no point of {name} has a score: {searches.errors.get(number)}", file=sys.stderr)
        else:
            print(f"{name}: {point_name(cell.chosen)} of {len(cell.trials)} points")
            for option in cell.edge:
                edge = "is at the edge of what was tried; a better one may lie outside."
                print(f"{name}: {option}={cell.chosen[option]} {edge}")
    return found


@contextmanager
def stopping() -> Iterator[None]:
    """Say how to go on when a signal ends a study."""
    try:
        yield
    except KeyboardInterrupt as error:
        print("kronlit: stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(TERMINATED if error.args else INTERRUPTED)


def stop_if_asked(results: list[Result]) -> None:
    """End if the runs were asked to stop."""
    if stop_requested() or any(result.status == "running" for result in results):
        stop()


def stop() -> NoReturn:
    """End a study that was asked to stop."""
    print("kronlit: asked to stop; the same command goes on from here.", file=sys.stderr)
    sys.exit(STOPPED)


def study_folder(config: Namespace) -> Path:
    """The folder of the study that a parsed command line describes."""
    names = [Path(str(path)).stem for path in config.config or ["unnamed"]]
    return Path(config.dir or Path("runs", "studies", "-".join(names)))


def study_from_config(config: Namespace) -> Study:
    """The study that a parsed command line describes."""
    values = {field.name: config[field.name] for field in fields(Study)}
    if config.published is not None:
        values["published"] = Published(config.published.source, config.published.scores)
    if config.tune is not None:
        values["tune"] = Tune(**{field.name: config.tune[field.name] for field in fields(Tune)})
    return Study(**values)


def count_runs(path: str) -> int:
    """The number of runs of the study in a YAML. It reads all config files and options, but runs nothing."""
    check_aliases(path)
    runs = plan(study_from_config(study_parser().parse_args(["--config", path])))
    for one in runs:
        one.config_hash()
    return len(runs)


def report_study(words: list[str]) -> str:
    """Write the report of the study in the folder that the words name, and return its Markdown."""
    parser = Parser(prog="kronlit study report", description="Write the report of a study to DIR/report.")
    parser.add_argument("dir", type=str, metavar="DIR", help="The study's folder.")
    parser.add_function_arguments(report, skip={"study", "root"})
    config = parser.parse_args(words)
    root = Path(config.dir)
    if not (root / "study.yaml").is_file():
        raise UserError(f"`dir`={config.dir!r} is no folder of a study: it has no study.yaml.")
    reader = study_parser()
    study = study_from_config(reader.parse_args(["--config", os.fspath(root / "study.yaml")]))
    study = tuned_study(study, root)
    return report(study, root, config.format, config.baseline, config.metric, config.std, config.plots)
