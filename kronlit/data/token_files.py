"""Your own rows of tokens and their tags, such as named entities or parts of speech."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.user_error import UserError
from kronlit.data.conll import read_conll
from kronlit.data.own_files import OwnFiles
from kronlit.data.row_file import RowFile, shorten
from kronlit.data.row_source import SUFFIXES
from kronlit.data.tasks import Task, are_span_tags, order_tags

Metric = Literal["span_f1", "span_precision", "span_recall", "accuracy"]

OF_SPANS: tuple[Metric, ...] = ("span_f1", "span_precision", "span_recall", "accuracy")
CONLL = (".conll", ".conllu", ".txt", ".tsv", ".iob", ".iob2", ".bio")
"""The names in a folder that are read as CoNLL's files; a file that is named itself may end in anything."""


class TokenFiles(OwnFiles):
    """Your own rows of tokens and their tags, for `TokenClassification`.

    A CoNLL file has a token and its tag on each line, and a blank line between rows. A JSONL or parquet file, or a data
    set of the hub, has a list of tokens and a list of as many tags.

    Args:
        train: what to train on: a CoNLL, .jsonl or .parquet file, a folder with files named after the splits, or
            a data set of the hub, `org/name`, with `/configuration`, `@revision` or `:split` after it.
        columns: where `tokens` and `tags` are, by name, or, in CoNLL's files, by number, from 0 or from the end, -1. By
            default they have these names, or `ner_tags` for `tags`; in CoNLL's files they are the first and the last.
        labels: the tags, in the order of the model's outputs; by default those of the training rows, O first.
        metrics: the metrics. The default is span_f1, span_precision, span_recall and accuracy, or accuracy alone if the
            tags are not of spans (O, B-…, I-…, E-…, S-…). The first one selects the checkpoint.
        **kwargs: what `OwnFiles` takes.
    """

    needed = "tokens and tags, or a CoNLL file"
    suffixes = (*CONLL, *SUFFIXES)

    def __init__(
        self,
        train: str,
        columns: dict[Literal["tokens", "tags"], str | int] | None = None,
        labels: tuple[str, ...] | None = None,
        metrics: tuple[Metric, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        self.columns = columns or {}
        self._labels = labels
        if labels is None:
            self._labels = labels = self._find_labels(self.read_files(train, "train"))
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise UserError(f"`data.labels`={list(labels)} must be two or more tags, each once.")
        metrics = metrics or (OF_SPANS if are_span_tags(labels) else ("accuracy",))
        if metrics != ("accuracy",) and not are_span_tags(labels):
            raise UserError(
                f"`data.metrics`={list(metrics)}: the tags {', '.join(labels[:4])}… are none of spans, which are O and "
                "B-…, I-…, E-… or S-…: use accuracy."
            )
        task = Task(
            Path(train).stem, ("tokens",), labels, metrics, selection=metrics[:1], jobs=("TokenClassification",)
        )
        super().__init__(task, train, **kwargs)

    def read_file(self, path: Path) -> RowFile:
        if path.suffix.lower() in SUFFIXES:
            return super().read_file(path)
        return read_conll(path, *(self._number(name) for name in ("tokens", "tags")))

    def _number(self, name: Literal["tokens", "tags"]) -> int | None:
        """The column of a CoNLL file that is `name`, if it is said."""
        column = self.columns.get(name)
        try:
            return None if column is None else int(column)
        except ValueError:
            raise UserError(f"`data.columns`: {name} are in a CoNLL file by number, not {column!r}.") from None

    def _name(self, file: RowFile, name: Literal["tokens", "tags"]) -> str:
        """The name of a column of a file; in a CoNLL file, whose reader has found it by its number, `name` itself."""
        said = self.columns.get(name, name)
        if name in file.columns and (isinstance(said, int) or said.lstrip("-").isdecimal()):
            return name
        return "ner_tags" if said == name == "tags" and "tags" not in file.columns else str(said)

    def _column(self, file: RowFile, name: Literal["tokens", "tags"]) -> list[Any]:
        """The cells of a column of lists; `ValueError` if a cell is no list, or there is no such column."""
        column = self._name(file, name)
        if column not in file.columns:
            missing = str(self.columns.get(name, name))
            file.check_column(missing, f"list of {name}", f" `data.columns` says where {name} are.")
        for row, cell in enumerate(file.columns[column]):
            if not isinstance(cell, list) or not cell or not all(isinstance(one, str | int) for one in cell):
                raise UserError(
                    f"{file.where(row)}: {shorten(cell)} in column {column!r} must be a list of {name}, one or more."
                )
        return file.columns[column]

    def _tokens(self, file: RowFile) -> list[list[str]]:
        return [[str(token) for token in row] for row in self._column(file, "tokens")]

    def _pairs(self, file: RowFile) -> tuple[list[list[str]], list[list[Any]]]:
        """The tokens and the tags of each row; `ValueError` if these are not as many."""
        tokens, tags = self._tokens(file), self._column(file, "tags")
        for row, (ours, theirs) in enumerate(zip(tokens, tags, strict=True)):
            if len(ours) != len(theirs):
                raise UserError(
                    f"{file.where(row)}: {len(ours)} tokens and {len(theirs)} tags: give each token one tag."
                )
        return tokens, tags

    def _find_labels(self, files: list[RowFile]) -> tuple[str, ...]:
        """The tags that files say that there are, or else those of their rows."""
        rows = [row for file in files for row in self._pairs(file)[1]]
        named = files[0].classes.get(self._name(files[0], "tags"), ())
        return named or order_tags({str(tag) for row in rows for tag in row})

    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        if not labelled:
            return {"tokens": self._tokens(file)}
        tokens, tags = self._pairs(file)
        return {"tokens": tokens, "label": [self._numbers(file, row, cell) for row, cell in enumerate(tags)]}

    def _numbers(self, file: RowFile, row: int, tags: list[Any]) -> list[int]:
        """The tags of a row as numbers; a number that is no tag's name is that of one of `labels`."""
        assert self._labels is not None
        numbers = {label: number for number, label in enumerate(self._labels)}
        if "0" not in numbers:  # then a number is that of one of the names
            tags = [self._labels[tag] if isinstance(tag, int) and 0 <= tag < len(numbers) else tag for tag in tags]
        for tag in tags:
            if str(tag) not in numbers:
                raise UserError(
                    f"{file.where(row)}: the tag {str(tag)!r} is in no training row, which have "
                    f"{', '.join(self._labels)}: correct it, or name all tags as `data.labels`."
                )
        return [numbers[str(tag)] for tag in tags]

    def read_labels(self, split: str) -> list[float]:
        return [tag for row in self.rows(split)["label"][:] for tag in row] if split in self._encoded else []

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for split in self.splits():
            if unread := sum(self.encode_once(split)["unread"]):
                rank_zero_only(print)(
                    f"{split}: {unread:,} tokens are not read, as they lie beyond `model.max_length` or are nothing to "
                    "the tokenizer; they have no tag."
                )
