"""Writes the batch script for sbatch.

submitit is not used: it pickles a Python function for the job to unpickle, and resubmits such a pickle to start again.
Here a job needs only the words that a person would type.
"""

import shlex
import sys

from kronlit.config.user_error import UserError
from kronlit.slurm.job import Job
from kronlit.training.signals import STOPPED

ONE = "$SLURM_JOB_ID"
EACH = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
"""The id of the job, or of one task of a job array (`scontrol requeue` with the array's id means all its tasks)."""


def write_script(job: Job, name: str, log: str, words: list[str], array: str | None = None) -> str:
    """A batch script that runs `words` under srun, and queues the job again when they exit with `STOPPED`.

    Args:
        job: the resources to ask for.
        name: name of the job.
        log: file for all output, in sbatch's notation.
        words: the words after `kronlit`, quoted for the shell.
        array: the task numbers of a job array in sbatch's notation, such as 0-8; `None` for a single job.

    Raises:
        ValueError: if an option has several lines: the shell would run the second one as a command.
    """
    own = EACH if array else ONE
    options = [
        f"--job-name={name}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.tasks}",
        f"--cpus-per-task={job.cpus_per_task}",
        *([f"--gpus-per-node={job.gpus_per_node}"] if job.gpus_per_node else []),
        *([f"--time={job.time}"] if job.time else []),
        *([f"--partition={job.partition}"] if job.partition else []),
        *([f"--array={array}" + (f"%{job.at_once}" if job.at_once else "")] if array else []),
        f"--signal=USR1@{job.stop_seconds}",
        "--requeue",
        "--open-mode=append",
        f"--output={log}",
        *job.sbatch,
    ]
    if several := [option for option in options if len(option.splitlines()) > 1]:
        raise UserError(f"{several[0]!r} must be one line.")
    lines = [
        "#!/usr/bin/env bash",
        *(f"#SBATCH {shlex.quote(option)}" for option in options),
        "",
        *job.setup,
        f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{job.cpus_per_task}}}",
        "trap : USR1 TERM  # the run heeds them; this shell waits for it",
        # The inner shell ignores the signals until Python has installed its own handlers.
        f'srun --cpus-per-task={job.cpus_per_task} --wait=60 bash -c \'trap "" USR1 TERM; exec "$@"\' bash \\',
        f"  {shlex.quote(sys.executable)} -m kronlit {' '.join(words)}",
        "code=$?",
        # A pre-empted job is in state RUNNING until it ends. A cancelled one is not, and must not be queued again.
        f'if [ $code -eq {STOPPED} ] && [ "$(squeue --noheader --job "{own}" --format %T)" = RUNNING ]; then',
        f'  scontrol requeue "{own}"',
        "fi",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"
