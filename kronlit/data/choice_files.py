"""Your own questions with several answers to choose from."""

from pathlib import Path
from typing import Any, Literal

from kronlit.config.user_error import UserError
from kronlit.data.own_files import OwnFiles
from kronlit.data.row_file import RowFile, shorten
from kronlit.data.tasks import Task


class ChoiceFiles(OwnFiles):
    """Your own rows of a question, a list of choices, and which of them is right, for `MultipleChoice`.

    `label` is the number of the right choice, from 0, or one of `labels`, such as A. Rows may have a `context`, which
    comes before the question, and need not have equally many choices.

    Args:
        train: what to train on: a .jsonl or .parquet file, a folder with files named after the splits, or
            a data set of the hub, `org/name`, with `/configuration`, `@revision` or `:split` after it.
        columns: the names of `context`, `question`, `choices` and `label` in the files, where they are others.
        labels: names of the places of the choices; by default the numbers from 0, as many as a training row has at
            most.
        **kwargs: what `OwnFiles` takes.
    """

    needed = "columns question, choices and label"

    def __init__(
        self,
        train: str,
        columns: dict[Literal["context", "question", "choices", "label"], str] | None = None,
        labels: tuple[str, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        self.columns: dict[str, str] = dict((columns or {}).items())
        if labels is None:
            choices = [texts for file in self.read_files(train, "train") for texts in self._choices(file)]
            labels = tuple(map(str, range(max(map(len, choices)))))
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise UserError(f"`data.labels`={list(labels)} must be two or more, each once.")
        self.labels = labels
        task = Task(Path(train).stem, ("question", "choices"), labels, jobs=("MultipleChoice",))
        super().__init__(task, train, **kwargs)

    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        questions, choices = file.texts(self._name("question")), self._choices(file)
        if self._name("context") in file.columns:
            contexts = file.texts(self._name("context"))
            questions = [f"{context} {question}" for context, question in zip(contexts, questions, strict=True)]
        elif "context" in self.columns:
            file.check_column(self._name("context"), "context")
        for row, texts in enumerate(choices):
            if len(texts) > len(self.labels):
                raise UserError(
                    f"{file.where(row)}: {len(texts)} choices, where training rows have {len(self.labels)} at most: "
                    "name the places of all as `data.labels`."
                )
        table: dict[str, list[Any]] = {"question": questions, "choices": choices}
        return table | ({"label": self._numbers(file, choices)} if labelled else {})

    def _name(self, column: str) -> str:
        return self.columns.get(column, column)

    def _choices(self, file: RowFile) -> list[list[str]]:
        """The choices of each row; `ValueError` if these are no list of two texts or more."""
        column = self._name("choices")
        file.check_column(column, "choices", " `data.columns` says where they are.")
        found = []
        for row, cell in enumerate(file.columns[column]):
            texts = cell.get("text") if isinstance(cell, dict) else cell  # the hub's ARC has texts and labels
            if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(one, str) for one in texts):
                raise UserError(
                    f"{file.where(row)}: {shorten(cell)} in column {column!r} must be a list of two texts or more."
                )
            found.append(texts)
        return found

    def _numbers(self, file: RowFile, choices: list[list[str]]) -> list[int]:
        """The number of each row's right choice."""
        column = self._name("label")
        file.check_column(column, "label", " `data.columns` says where it is.")
        numbers = {label: number for number, label in enumerate(self.labels)}
        found = []
        for row, cell in enumerate(file.columns[column]):
            number = cell if type(cell) is int else numbers.get(str(cell), -1)
            if not 0 <= number < len(choices[row]):
                raise UserError(
                    f"{file.where(row)}: the label {shorten(cell)} must be one of "
                    f"{', '.join(self.labels[: len(choices[row])])}, or the number of a choice, from 0."
                )
            found.append(number)
        return found
