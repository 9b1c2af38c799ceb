"""Your own questions about a context that has the answers, as SQuAD's: Rajpurkar et al., 2016, arXiv:1606.05250."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from kronlit.config.user_error import UserError
from kronlit.data.own_files import OwnFiles
from kronlit.data.row_file import RowFile, shorten, utf8_text
from kronlit.data.row_source import SUFFIXES
from kronlit.data.tasks import Task, option_values


class QuestionFiles(OwnFiles):
    """Your own rows of a question, a context, and answers that lie in it, for `QuestionAnswering` or `TextToText`.

    `answers` are as in SQuAD: `{"text": ["Ada"], "answer_start": [17]}`, with the place of each answer's first
    character in the context. Without any text, the context has no answer (SQuAD 2.0). SQuAD's own .json is read, too.

    Args:
        train: what to train on: a .jsonl, .parquet or SQuAD's .json file, a folder with files named after the splits,
            or a data set of the hub, `org/name`, with `/configuration`, `@revision` or `:split` after it.
        columns: the names of `question`, `context` and `answers` in the files, where they are others.
        **kwargs: what `OwnFiles` takes.
    """

    needed = "columns question, context and answers"
    suffixes = (*SUFFIXES, ".json")

    def __init__(
        self,
        train: str,
        columns: dict[Literal["question", "context", "answers"], str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.columns: dict[str, str] = dict((columns or {}).items())
        columns_read = ("question", "context")
        task = Task(
            Path(train).stem,
            columns_read,
            (),
            ("answer_f1", "answer_exact_match"),
            source=option_values(*columns_read),
            free_text=True,
            jobs=("QuestionAnswering", "TextToText"),
        )
        super().__init__(task, train, **kwargs)

    def read_file(self, path: Path) -> RowFile:
        return read_squad(path) if path.suffix.lower() == ".json" else super().read_file(path)

    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        table = {name: file.texts(self.columns.get(name, name)) for name in self.task.columns}
        if not labelled:
            return table
        column = self.columns.get("answers", "answers")
        file.check_column(column, "answers", " `data.columns` says where they are.")
        pairs = [read_answers(file, row, column, table["context"][row]) for row in range(len(file.numbers))]
        return table | {"answers": [texts or [""] for texts, _ in pairs], "starts": [starts for _, starts in pairs]}


def read_answers(file: RowFile, row: int, column: str, context: str) -> tuple[list[str], list[int]]:
    """The answers of a row, and where they begin; `ValueError` if these are none, or do not lie there."""
    cell = file.columns[column][row]
    if isinstance(cell, list):  # as in SQuAD's own files
        parts = all(isinstance(one, dict) for one in cell)
        cell = {name: [one.get(name) for one in cell] for name in ("text", "answer_start")} if parts else None
    texts, starts = (cell.get(name) if isinstance(cell, dict) else None for name in ("text", "answer_start"))
    if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
        raise UserError(
            f"{file.where(row)}: {shorten(file.columns[column][row])} in column {column!r} must be answers such as "
            '{"text": ["Ada"], "answer_start": [17]}.'
        )
    for text, start in zip(texts, starts, strict=True):
        there = isinstance(text, str) and bool(text.strip()) and type(start) is int and start >= 0
        if not there or context[start : start + len(text)] != text:
            raise UserError(
                f"{file.where(row)}: the answer {shorten(text)} does not lie in its context at `answer_start`="
                f"{shorten(start)}, counted in characters from 0{found_at(context, text)}."
            )
    return texts, starts


def found_at(context: str, text: Any) -> str:
    """Where a text lies in its context, for a message."""
    place = context.find(text) if isinstance(text, str) and text else -1
    return "" if place < 0 else f"; it lies at {place}"


def read_squad(path: Path) -> RowFile:
    """The rows of a file as SQuAD is released; `ValueError` if it is of another form."""
    try:
        with utf8_text(path) as file:
            rows = list(squad_rows(json.load(file)))
    except (json.JSONDecodeError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{str(path)!r} is not of the form in which SQuAD is released: {error!r}; rows of one's own go into .jsonl."
        ) from error
    if not rows:
        raise UserError(f"{str(path)!r} has no rows.")
    return RowFile(str(path), {name: [row[name] for row in rows] for name in rows[0]}, [], range(1, len(rows) + 1))


def squad_rows(content: Any) -> Iterator[dict[str, Any]]:
    """The questions of SQuAD's JSON."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = {"answers": question.get("answers", [])}
                yield {
                    "id": question["id"],
                    "question": question["question"],
                    "context": paragraph["context"],
                } | answers
