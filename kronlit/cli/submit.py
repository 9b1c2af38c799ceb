"""The command `kronlit submit`: a fit as a job of Slurm, a study as a job array."""

import json
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from kronlit.cli.study import study_folder, study_from_config, study_parser
from kronlit.config.aliases import check_configs
from kronlit.config.files import read_yaml
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError
from kronlit.config.words import values_of
from kronlit.slurm.job import Job
from kronlit.slurm.script import write_script
from kronlit.studies.execute import write_study
from kronlit.studies.plan import plan, select_runs
from kronlit.studies.study import Study

OWN = {"dry_run", *(field.name for field in fields(Job))}
SET_HERE = ("--trainer.devices", "--trainer.num_nodes", "--ckpt_path", "--processes", "--gpus", "--run")


def submit_command(words: list[str]) -> None:
    """Run the words after `kronlit submit`."""
    with one_line():
        check_configs()
        study = words[:1] == ["study"]
        own, rest = split_words(words[1:] if study else words)
        given = job_parser().parse_args([*slurm_sections(values_of(rest, "--config")), *own])
        job = Job(**{field.name: given[field.name] for field in fields(Job)})
        if taken := [word for word in rest if word.split("=")[0] in SET_HERE]:
            raise UserError(f"`{taken[0].removeprefix('--')}` is what `kronlit submit` sets: leave it out.")
        (submit_study if study else submit_fit)(job, rest, given.dry_run)


def job_parser() -> ArgumentParser:
    """The parser of the options for Slurm."""
    description = (
        "Run `kronlit fit` as a Slurm job, or, with the word `study` first, `kronlit study` as a job array. Options "
        "that are not listed here go to that command. The section `slurm` of a config file sets the same options. "
        "Before the time limit the run saves and ends, and is queued again to resume in its folder."
    )
    parser = Parser(prog="kronlit submit", description=description, usage="kronlit submit [study] --config ...")
    parser.add_class_arguments(Job)
    parser.add_argument("--dry_run", type=bool, default=False, help="Print the batch script and submit nothing.")
    return parser


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Split the words into options for Slurm and all others."""
    own, rest = [], []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").removeprefix("slurm.").replace("-", "_")
        if word in ("-h", "--help"):
            own.append(word)
        elif not option.startswith("--") or name not in OWN:
            rest.append(word)
        elif name == "dry_run" and not equals and (not waiting or waiting[0].startswith("--")):
            own.append("--dry_run=true")
        else:
            value = value if equals else waiting.pop(0) if waiting else ""
            own.append(f"--{name}={value}")
    return own, rest


def slurm_sections(paths: Iterable[str]) -> Iterator[str]:
    """The `slurm` sections of config files, as words of a command line."""
    for path in paths:
        section = read_config(path).get("slurm") or {}
        if not isinstance(section, dict):
            raise UserError(f"`slurm` in {path!r} must hold keys and values, as configs/slurm/cpu.yaml has them.")
        if not isinstance(section.get("time", ""), str):  # YAML reads 1:30:00 as the number 5400
            raise UserError(f"`slurm.time` in {path!r} must be in quotes, such as '24:00:00'.")
        yield from (
            f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in section.items()
        )


def read_config(path: str) -> dict[str, Any]:
    """Read a config file."""
    return read_yaml(path, f"`config`={path!r}")


def submit_fit(job: Job, words: list[str], dry_run: bool) -> None:
    """Submit one run, which gets a folder named after the job."""
    configs = values_of(words, "--config")
    if not configs:
        raise UserError("`config` is missing: `kronlit submit --config FILE.yaml`.")
    name = "-".join(Path(path).stem for path in configs)
    inside = [str(found) for path in configs if (found := read_config(path).get("run_dir"))]
    run_dir = [f"runs/{name}", *inside, *values_of(words, "--run_dir")][-1]
    trainer = ["--trainer.num_nodes", str(job.nodes), "--trainer.devices", str(job.tasks)]
    command = shlex.join(["fit", *words, *trainer, "--ckpt_path", "last", "--run_dir"])
    text = write_script(job, name, f"{run_dir}/slurm-%j.log", [command, f'{shlex.quote(run_dir)}/"job-$SLURM_JOB_ID"'])
    submit(text, Path(run_dir), dry_run)


def submit_study(job: Job, words: list[str], dry_run: bool) -> None:
    """Submit all runs of a study as one job array. Jobs of finished runs end at once."""
    if job.nodes * job.tasks > 1:
        raise UserError("a run of a study is one process: `nodes` and `tasks_per_node` must be 1.")
    config = study_parser().parse_args(words)
    study, root = study_from_config(config), study_folder(config)
    runs = plan(study)
    for run in runs:
        run.config_hash()  # reads the files it names
    if study.tune:
        submit_tuned(job, study, root, config.only, dry_run)
        return
    again = ["study", "--config", str(root / "study.yaml"), "--dir", str(root), "--retry_failed", "true", "--run"]
    numbers = ",".join(str(runs.index(run)) for run in select_runs(runs, config.only))
    array = numbers if config.only else f"0-{len(runs) - 1}"
    text = write_script(job, root.name, f"{root}/slurm-%A_%a.log", [shlex.join(again), '"$SLURM_ARRAY_TASK_ID"'], array)
    if not dry_run:
        root.mkdir(parents=True, exist_ok=True)
        write_study(study, root)
    submit(text, root, dry_run)


def submit_tuned(job: Job, study: Study, root: Path, only: list[str] | None, dry_run: bool) -> None:
    """Submit a study with `tune` as one job, because what runs next depends on what came before."""
    words = shlex.join(
        ["study", "--config", str(root / "study.yaml"), "--dir", str(root), *(["--only", *only] if only else [])]
    )
    if not dry_run:
        root.mkdir(parents=True, exist_ok=True)
        write_study(study, root)
    submit(write_script(job, root.name, f"{root}/slurm-%j.log", [words]), root, dry_run)


def submit(text: str, folder: Path, dry_run: bool) -> None:
    """Give a script to sbatch, or print it.

    Raises:
        ValueError: if there is no sbatch, or it refuses.
    """
    print(text, end="")
    if dry_run:
        return
    folder.mkdir(parents=True, exist_ok=True)  # Slurm does not create the folder of the log
    try:
        done = subprocess.run(["sbatch", "--parsable"], input=text, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError("there is no `sbatch` here: submit where Slurm is; `dry_run` shows the script.") from error
    if done.returncode:
        raise UserError(f"sbatch refused the job: {done.stderr.strip()}")
    print(f"submitted job {done.stdout.strip().split(';')[0]}; its log and runs are in {folder}")
