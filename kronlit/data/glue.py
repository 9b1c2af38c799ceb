"""GLUE: Wang et al., 2019, arXiv:1804.07461, from the hub or a local folder, in the splits that papers use."""

from typing import Any, Literal

from datasets import Dataset

from kronlit.data import benchmark
from kronlit.data.tasks import GLUE_TASKS
from kronlit.data.text import TextData

HUB_ID = "nyu-mll/glue"

HALVED = ("cola", "wnli", "rte", "mrpc", "stsb")
"""Tasks of which Mahabadi et al. halve the development set."""
HELD_OUT = ("qqp", "qnli", "sst2")
"""Tasks of which they hold out a thousand training rows."""


class GLUE(TextData):
    """The GLUE benchmark.

    Args:
        task: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli or ax (diagnostics: predict only).
        path: a folder with `<task>/<split>.parquet` as the hub has it; by default the hub's nyu-mll/glue.
        splits: `official`, or `mahabadi`, those of Mahabadi et al. (Compacter) and of KronA: development sets
            halved into validation and test (cola, rte, mrpc, stsb, wnli); 1,000 training rows as validation and the
            development set as test (sst2, qqp, qnli); mnli mismatched as validation and matched as test.
        split_seed: of the mahabadi splits; their code has 42.
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
        if task not in GLUE_TASKS:
            raise ValueError(f"`data.task`={task!r} is no GLUE task; there are {', '.join(GLUE_TASKS)}.")
        if task == "ax" and splits == "mahabadi":
            raise ValueError("`data.splits`='mahabadi' has no ax: it is a test set alone; use `official`.")
        super().__init__(GLUE_TASKS[task], **kwargs)
        self.path = path
        self.protocol = splits
        self.split_seed = split_seed

    def validation_splits(self) -> tuple[str, ...]:
        if self.protocol == "mahabadi":
            return ("validation",)
        return ("validation", *(f"validation_{name}" for name in self.task.validation))

    def prediction_splits(self) -> tuple[str, ...]:
        if self.protocol == "official" and self.task.name == "mnli":
            return ("test_matched", "test_mismatched")
        return ("test",)

    def held_out(self, split: str) -> bool:
        return self.protocol == "mahabadi" and (
            self.task.name in HALVED or (self.task.name in HELD_OUT and split == "validation")
        )

    def load(self, split: str) -> Dataset:
        return self._official(split) if self.protocol == "official" else self._mahabadi(split)

    def _official(self, split: str) -> Dataset:
        if self.task.name == "mnli" and split in ("validation", "test"):
            split = f"{split}_matched"
        return self.read(split)

    def _mahabadi(self, split: str) -> Dataset:
        task = self.task.name
        if task == "mnli" and split != "train":
            return self.read({"validation": "validation_mismatched", "test": "validation_matched"}[split])
        if task in HALVED and split != "train":
            rows = self.read("validation")
            return benchmark.part(rows, len(rows) // 2, split, self.split_seed)
        if task in HELD_OUT and split != "test":
            return benchmark.part(self.read("train"), 1000, split, self.split_seed)
        return self.read({"train": "train", "test": "validation"}[split])

    def read(self, split: str) -> Dataset:
        """The rows of an official split; `ValueError` if neither the folder nor the hub has them."""
        return benchmark.read(HUB_ID, self.task.name, split, self.path)
