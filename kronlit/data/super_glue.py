"""SuperGLUE: Wang et al., 2019, arXiv:1905.00537, from the hub or a local folder, in the splits that papers use."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from kronlit.data import benchmark
from kronlit.data.tasks import SUPER_GLUE_DIAGNOSTICS, SUPER_GLUE_TASKS, named
from kronlit.data.text import TextData

HUB_ID = "aps/super_glue"
TASKS = SUPER_GLUE_TASKS | SUPER_GLUE_DIAGNOSTICS

Row = dict[str, Any]


class SuperGLUE(TextData):
    """The SuperGLUE benchmark.

    Texts are prepared as Raffel et al. (T5, arXiv:1910.10683, appendix D) and Mahabadi et al. do: MultiRC without its
    HTML, WSC with `*` around the noun and `#` around the pronoun, ReCoRD with one training row for each right answer.
    COPA and ReCoRD are for `TextToText`; the others are for `SequenceClassification` too.

    Args:
        task: boolq, cb, copa, multirc, record, rte, wic or wsc (the hub's wsc.fixed); or axb or axg, diagnostics to be
            predicted by rte's model.
        path: a folder with `<task>/<split>.parquet` as the hub has it; by default the hub's aps/super_glue.
        splits: `official`, or `mahabadi`, those of Mahabadi et al. (Compacter): development sets halved into
            validation and test; for record, 1,000 training rows as validation and the development set as test.
        split_seed: of the mahabadi splits; their code has 42.
        copa_question: let COPA's input say whether the cause or the effect is asked for. The code of Mahabadi et al.
            leaves that out, and with it what the task is.
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
            raise ValueError(f"`data.task`={task!r} is no SuperGLUE task; there are {', '.join(TASKS)}.")
        if task in SUPER_GLUE_DIAGNOSTICS and splits == "mahabadi":
            raise ValueError(f"`data.splits`='mahabadi' has no {task}: it is a test set alone; use `official`.")
        described = TASKS[task]
        if task == "copa" and not copa_question:
            columns = described.columns[:-1]
            described = replace(described, columns=columns, source=named(*columns))
        super().__init__(described, **kwargs)
        self.path = path
        self.protocol = splits
        self.split_seed = split_seed

    def held_out(self, split: str) -> bool:
        return self.protocol == "mahabadi" and (self.task.name != "record" or split == "validation")

    def load(self, split: str) -> Dataset:
        rows = self.read(split) if self.protocol == "official" else self._mahabadi(split)
        task = self.task.name
        try:
            if task == "record":
                return record(rows, one_row_an_answer=split == "train")
            return rows.map(PREPARED[task]) if task in PREPARED else rows
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{task}/{split} is not of the form in which SuperGLUE has it: {error!r}.") from error

    def identified(self, split: str) -> dict[str, list[Any]]:
        """The texts of the rows, and `idx`, by which the benchmark's site knows them."""
        rows = self.rows(split)
        return super().identified(split) | ({"idx": list(rows["idx"])} if "idx" in rows.column_names else {})

    def _mahabadi(self, split: str) -> Dataset:
        if self.task.name == "record":
            if split == "test":
                return self.read("validation")
            return benchmark.part(self.read("train"), 1000, split, self.split_seed)
        if split == "train":
            return self.read("train")
        rows = self.read("validation")
        return benchmark.part(rows, len(rows) // 2, split, self.split_seed)

    def read(self, split: str) -> Dataset:
        """The rows of an official split; `ValueError` if neither the folder nor the hub has them."""
        task = self.task.name
        if task == "wsc" and (self.path is None or Path(self.path, "wsc.fixed").is_dir()):
            task = "wsc.fixed"
        return benchmark.read(HUB_ID, task, split, self.path)


def multirc(row: Row) -> Row:
    """A row without HTML, and the number of its question, whose answers are scored together."""
    texts = {name: re.sub("</?b>", "", row[name].replace("<br>", " ")) for name in ("question", "answer", "paragraph")}
    return texts | {"group": row["idx"]["question"]}


def wsc(row: Row) -> Row:
    """A row whose text has `*` around the first span and `#` around the second."""
    text = marked(row["text"], row["span1_text"], row["span1_index"], "*")
    index = row["span2_index"] + 2 * (row["span1_index"] < row["span2_index"])  # the two marks before it are words
    return {"text": marked(text, row["span2_text"], index, "#")}


def marked(text: str, span: str, index: int, mark: str) -> str:
    """`text` with `mark` on both sides of `span`, its word number `index`; unchanged where `span` is not there."""
    return re.sub(rf"^((?:\S+\s){{{index}}})({re.escape(span)})", rf"\1{mark} \2 {mark}", text)


PREPARED: dict[str, Callable[[Row], Row]] = {"multirc": multirc, "wsc": wsc}


def record(rows: Dataset, one_row_an_answer: bool) -> Dataset:
    """ReCoRD's rows with their entities as one text and `answers`, all or each in a row of its own."""

    def prepared(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"query": [], "entities": [], "passage": [], "answers": [], "idx": []}
        for query, entities, passage, answers, idx in zip(
            batch["query"], batch["entities"], batch["passage"], batch["answers"], batch["idx"], strict=True
        ):
            if isinstance(entities, str) or isinstance(answers, str):
                raise TypeError("entities and answers must be lists of texts")  # of a text, each letter would be one
            passage = re.sub(r"(\.|\?|\!|\"|\')\n@highlight\n", r"\1 ", passage)
            passage = re.sub(r"\n@highlight\n", ". ", passage)
            for some in [[answer] for answer in answers] if one_row_an_answer else [answers]:
                for name, value in zip(columns, (query, ", ".join(entities), passage, some, idx), strict=True):
                    columns[name].append(value)
        return columns

    return rows.map(prepared, batched=True, remove_columns=rows.column_names)
