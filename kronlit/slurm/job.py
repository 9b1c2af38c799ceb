"""The resources of a Slurm job, set by the section `slurm` of a YAML or the options of `kronlit submit`."""

from dataclasses import dataclass, field

from kronlit.config.user_error import UserError


@dataclass(frozen=True)
class Job:
    """The resources that a run asks of Slurm. In a study, each run asks for them.

    Args:
        nodes: number of machines.
        gpus_per_node: GPUs on each machine; each GPU gets one process.
        tasks_per_node: processes on each machine; by default `gpus_per_node`, or 1 without GPUs.
        cpus_per_task: cores for each process.
        time: time limit in Slurm's notation, such as '24:00:00'; quote it in a YAML. By default the partition's.
        partition: the partition to run in; by default Slurm's default.
        stop_seconds: how many seconds before the time limit the run is told to save and be queued again; must be
            longer than a validation.
        at_once: how many runs of a study may run at the same time; by default as many as Slurm allows.
        sbatch: other options of sbatch, such as '--account=me'.
        setup: shell lines to run first, such as 'module load cuda'.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int | None = None
    cpus_per_task: int = 1
    time: str | None = None
    partition: str | None = None
    stop_seconds: int = 180
    at_once: int | None = None
    sbatch: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        least = {"nodes": 1, "gpus_per_node": 0, "tasks_per_node": 1, "cpus_per_task": 1, "stop_seconds": 1}
        for name, number in (least | {"at_once": 1}).items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise UserError(f"`{name}`={value} must be at least {number}.")
        if self.gpus_per_node and self.tasks != self.gpus_per_node:
            raise UserError(
                f"`tasks_per_node`={self.tasks} must be `gpus_per_node`={self.gpus_per_node}, or be left out: "
                "each process has one GPU."
            )
        for name, word in (("time", self.time), ("partition", self.partition)):
            if word is not None and len(word.split()) != 1:
                raise UserError(f"`{name}`={word!r} must be one word.")
        for option in self.sbatch:
            if not option.startswith("--"):
                raise UserError(f"`sbatch`={option!r} must be an option of sbatch, such as '--account=me'.")

    @property
    def tasks(self) -> int:
        """Number of processes on each machine."""
        return self.tasks_per_node or self.gpus_per_node or 1
