"""The text that sbatch is given.

It is written here, not by submitit: submitit pickles a Python function for the job to unpickle, and starts again by
submitting such a pickle anew, where a job needs nothing but the words that a person would type.
"""

import shlex
import sys

from kronlit.config.user_error import UserError
from kronlit.slurm.job import Job
from kronlit.training.signals import STOPPED

ONE = "$SLURM_JOB_ID"
EACH = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
"""The job's id; of a job array, the task's own (`scontrol requeue` takes the id of the array for all of its tasks)."""


def write_script(job: Job, name: str, log: str, words: list[str], array: str | None = None) -> str:
    """A batch script that runs `words` under srun, and again each time that it stops with `STOPPED`.

    Args:
        job: what is asked for.
        name: the job's.
        log: the file of all that is printed, in sbatch's notation.
        words: after `kronlit`, as the shell is to read them.
        array: numbers of the job array's tasks, as sbatch takes them, such as 0-8; `None` for one job.

    Raises:
        ValueError: if an option has more than one line, of which the shell would run the second.
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
        # The inner shell ignores the signal for the moment before Python takes it over
        f'srun --cpus-per-task={job.cpus_per_task} --wait=60 bash -c \'trap "" USR1 TERM; exec "$@"\' bash \\',
        f"  {shlex.quote(sys.executable)} -m kronlit {' '.join(words)}",
        "code=$?",
        # A job that is pre-empted runs until it ends; one that is cancelled does not, and is to stay so
        f'if [ $code -eq {STOPPED} ] && [ "$(squeue --noheader --job "{own}" --format %T)" = RUNNING ]; then',
        f'  scontrol requeue "{own}"',
        "fi",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"
