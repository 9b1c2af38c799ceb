"""Your own rows of a text and the text that is to be written for it."""

from pathlib import Path
from typing import Any, Literal

from kronlit.config.user_error import UserError
from kronlit.data.own_files import OwnFiles
from kronlit.data.row_file import RowFile, shorten
from kronlit.data.tasks import Task

Metric = Literal["rouge_l", "bleu", "exact_match", "nist", "cider", "ter"]


class TextPairs(OwnFiles):
    """Your own rows of a source and a target text, such as a document and its summary, for `TextToText`.

    A target may also be a list of texts that are all right: the first one is learned, and all count in scores.

    Args:
        train: what to train on: a .jsonl, .csv or .parquet file, a folder with files named after the splits, or
            a data set of the hub, `org/name`, with `/configuration`, `@revision` or `:split` after it.
        columns: the names of `source` and `target` in the files, where they are others.
        metrics: the metrics, of which the first selects the checkpoint. All but exact_match need the extra `nlg`.
        **kwargs: what `OwnFiles` takes.
    """

    needed = "columns source and target"

    def __init__(
        self,
        train: str,
        columns: dict[Literal["source", "target"], str] | None = None,
        metrics: tuple[Metric, ...] = ("rouge_l", "bleu", "exact_match"),
        **kwargs: Any,
    ) -> None:
        if not metrics or metrics[0] == "ter":
            raise UserError(
                f"`data.metrics`={list(metrics)} must begin with one of which more is better, to select by."
            )
        self.columns = columns or {}
        task = Task(Path(train).stem, ("source",), (), metrics, source="{source}", free_text=True, jobs=("TextToText",))
        super().__init__(task, train, **kwargs)

    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        column = self.columns.get("source", "source")
        file.check_column(column, "source text", " `data.columns` says where sources and targets are.")
        sources = file.texts(column)
        for row, text in enumerate(sources):
            check_text(file, row, column, text)
        return {"source": sources} | ({"answers": self._targets(file)} if labelled else {})

    def _targets(self, file: RowFile) -> list[list[str]]:
        """The right texts of each row."""
        column = self.columns.get("target", "target")
        file.check_column(column, "target text", " `data.columns` says where sources and targets are.")
        found = []
        for row, cell in enumerate(file.columns[column]):
            found.append(cell if isinstance(cell, list) and cell else [cell])
            for text in found[-1]:
                check_text(file, row, column, text)
        return found


def check_text(file: RowFile, row: int, column: str, text: Any) -> None:
    """Raise `ValueError`, which names the row, unless there is a text in its cell."""
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{file.where(row)}: {shorten(text)} in column {column!r} must be a text that is not empty.")
