"""GLUE: Wang et al., 2019, arXiv:1804.07461, from the hub or a local folder, in the splits that papers use."""

from typing import Any, Literal

from datasets import Dataset

from kronlit.config.user_error import UserError, did_you_mean
from kronlit.data import benchmark
from kronlit.data.tasks.benchmark import BenchmarkTask
from kronlit.data.tasks.glue import TASKS
from kronlit.data.text import TextData

HUB_ID = "nyu-mll/glue"


class GLUE(TextData):
    """The GLUE benchmark.

    Args:
        task: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli or ax (diagnostics: predict only).
        path: a folder with `<task>/<split>.parquet` as the hub has it; by default the hub's nyu-mll/glue.
        splits: `official`, or `mahabadi`, those of Mahabadi et al. (Compacter) and of KronA: development sets
            halved into validation and test (cola, rte, mrpc, stsb, wnli); 1,000 training rows as validation and the
            development set as test (sst2, qqp, qnli); mnli mismatched as validation and matched as test.
        split_seed: seed of the mahabadi splits; their code uses 42.
        **kwargs: what `TextData` takes.
    """

    def __init__(
        self,
        task: str,
        path: str | None = None,
        splits: Literal["official", "mahabadi"] = "official",
        split_seed: int = 42,
        **kwargs: Any,
    ) -> None:
        if task not in TASKS:
            raise UserError(
                f"`data.task`={task!r} is no GLUE task; there are {', '.join(TASKS)}{did_you_mean(task, TASKS)}"
            )
        benchmark.check_splits(TASKS[task], splits)
        super().__init__(TASKS[task].task, **kwargs)
        self.path = path
        self.protocol = splits
        self.split_seed = split_seed

    @property
    def known(self) -> BenchmarkTask:
        """What is known of the task."""
        return TASKS[self.task.name]

    def validation_splits(self) -> tuple[str, ...]:
        if self.protocol == "mahabadi":
            return ("validation",)
        return ("validation", *(f"validation_{name}" for name in self.task.validation))

    def prediction_splits(self) -> tuple[str, ...]:
        tables = self.known.tables if self.protocol == "official" else ()
        return tuple(table.split for table in tables) or ("test",)

    def draws(self) -> dict[str, Any]:
        return super().draws() | {"splits": self.protocol}

    def held_out(self, split: str) -> bool:
        return self.protocol == "mahabadi" and self.known.held_out(split)

    def load(self, split: str) -> Dataset:
        if self.protocol == "mahabadi":
            return benchmark.mahabadi(self.known, self.read, split, self.split_seed)
        return self.read(self.known.official.get(split, split))

    def read(self, split: str) -> Dataset:
        """The rows of an official split; `ValueError` if neither the folder nor the hub has them."""
        return benchmark.read_split(HUB_ID, self.task.name, split, self.path)
