"""SuperGLUE: Wang et al., 2019, arXiv:1905.00537, from the hub or a local folder, in the splits that papers use."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from kronlit.config.user_error import UserError, did_you_mean
from kronlit.data import benchmark
from kronlit.data.tasks import option_values
from kronlit.data.tasks.super_glue import TASKS, SuperGlueTask
from kronlit.data.text import TextData

HUB_ID = "aps/super_glue"


class SuperGLUE(TextData):
    """The SuperGLUE benchmark.

    Texts are prepared as by Raffel et al. (T5, arXiv:1910.10683, appendix D) and Mahabadi et al.: MultiRC without its
    HTML, WSC with `*` around the noun and `#` around the pronoun, and ReCoRD with one training row for each correct
    answer. COPA and ReCoRD need `TextToText`; the others work with `SequenceClassification` too.

    Args:
        task: boolq, cb, copa, multirc, record, rte, wic or wsc (the hub's wsc.fixed); or axb or axg, diagnostics to be
            predicted by rte's model.
        path: a folder with `<task>/<split>.parquet` as the hub has it; by default the hub's aps/super_glue.
        splits: `official`, or `mahabadi`, those of Mahabadi et al. (Compacter): development sets halved into
            validation and test; for record, 1,000 training rows as validation and the development set as test.
        split_seed: seed of the mahabadi splits; their code uses 42.
        copa_question: let COPA's input say whether it asks for the cause or the effect. The code of Mahabadi et al.
            leaves this out, although the answer depends on it.
        **kwargs: what `TextData` takes.
    """

    def __init__(
        self,
        task: str,
        path: str | None = None,
        splits: Literal["official", "mahabadi"] = "official",
        split_seed: int = 42,
        copa_question: bool = True,
        **kwargs: Any,
    ) -> None:
        if task not in TASKS:
            raise UserError(
                f"`data.task`={task!r} is no SuperGLUE task; there are {', '.join(TASKS)}{did_you_mean(task, TASKS)}"
            )
        benchmark.check_splits(TASKS[task], splits)
        described = TASKS[task].task
        if task == "copa" and not copa_question:
            columns = described.columns[:-1]
            described = replace(described, columns=columns, source=option_values(*columns))
        super().__init__(described, **kwargs)
        self.path = path
        self.protocol = splits
        self.split_seed = split_seed

    @property
    def known(self) -> SuperGlueTask:
        """What is known of the task."""
        return TASKS[self.task.name]

    def draws(self) -> dict[str, Any]:
        return super().draws() | {"splits": self.protocol}

    def held_out(self, split: str) -> bool:
        return self.protocol == "mahabadi" and self.known.held_out(split)

    def load(self, split: str) -> Dataset:
        if self.protocol == "mahabadi":
            rows = benchmark.mahabadi(self.known, self.read, split, self.split_seed)
        else:
            rows = self.read(self.known.official.get(split, split))
        try:
            return rows if self.known.prepare is None else self.known.prepare(rows, split)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            where = f"{self.task.name}/{split}"
            raise UserError(f"{where} is not of the form in which SuperGLUE has it: {error!r}.") from error

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        """The texts of the rows, and `idx`, by which the benchmark's site identifies them."""
        rows = self.rows(split)
        return super().row_identity(split) | ({"idx": list(rows["idx"])} if "idx" in rows.column_names else {})

    def read(self, split: str) -> Dataset:
        """The rows of an official split; `ValueError` if neither the folder nor the hub has them."""
        task, hub_name = self.task.name, self.known.hub_name
        if hub_name and (self.path is None or Path(self.path, hub_name).is_dir()):
            task = hub_name
        return benchmark.read_split(HUB_ID, task, split, self.path)
