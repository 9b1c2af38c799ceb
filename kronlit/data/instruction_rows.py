"""Rows to fine-tune a language model on: prompt and completion, messages, or text alone, as TRL has them."""

from typing import Any, Literal

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile, shorten

Form = Literal["prompt", "messages", "text"]

COLUMNS: dict[Form, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
}
"""By form, the columns of a row."""
NEEDED = "the columns prompt and completion, or messages, or text"


def find_form(file: RowFile, names: dict[str, str], answered: bool = True) -> Form:
    """The form of a file's rows.

    Args:
        file: the rows.
        names: by column, the name that it has in the file, if that is another.
        answered: whether the rows must have a completion.

    Raises:
        ValueError: if they are of no form, or of several.
    """
    found: list[Form] = []
    for form, columns in COLUMNS.items():
        needed = columns if answered else columns[:1]
        if all(names.get(column, column) in file.columns for column in needed):
            found.append(form)
    found = [form for form in found if set(COLUMNS[form]) & names.keys()] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{file.path!r} has rows of several forms, by its columns {' and '.join(COLUMNS[f][0] for f in found)}: "
            f"name the one to read, such as `data.columns`={{{found[0]}: {names.get(found[0], found[0])}}}."
        )
    for needed in (columns if answered else columns[:1] for columns in COLUMNS.values()):
        missing = [column for column in needed if names.get(column, column) not in file.columns]
        if names.keys() & set(needed) or len(missing) < len(needed):  # named, or one of a pair
            check_column(file, missing[0], names)
    raise UserError(
        f"{file.where(0)}: no {NEEDED.removeprefix('the ')}; it has {', '.join(file.columns)}: name them, such as "
        "`data.columns`={prompt: question, completion: answer}."
    )


def check_column(file: RowFile, column: str, names: dict[str, str]) -> None:
    """Raise `ValueError` unless a file has a column."""
    file.check_column(names.get(column, column), column, f" Name it, such as `data.columns`={{{column}: other}}.")


def read_columns(file: RowFile, form: Form, names: dict[str, str], answered: bool = True) -> dict[str, list[Any]]:
    """The column of a form, `answers` (each row's right ones), and `where` each row stands.

    Raises:
        ValueError: if a column is missing, or a cell is empty or of another kind.
    """
    columns = COLUMNS[form] if answered else COLUMNS[form][:1]
    for column in columns:
        check_column(file, column, names)
    first = names.get(form, form)
    where = [file.where(row) for row in range(len(file.numbers))]
    if form == "messages":
        cells = zip(file.columns[first], where, strict=True)
        talks = [check_messages(cell, f"{place}, column {first!r}", answered) for cell, place in cells]
        answers = [[talk[-1]["content"]] for talk in talks]
        return {"messages": talks} | ({"answers": answers} if answered else {}) | {"where": where}
    texts = {column: full_texts(file, names.get(column, column), column) for column in columns}
    read: dict[str, list[Any]] = {form: texts[form], "where": where}
    if answered:
        read["answers"] = [[text] for text in texts["completion"]] if form == "prompt" else [[""]] * len(where)
    return read


def full_texts(file: RowFile, name: str, kind: str) -> list[str]:
    """A column of texts; `ValueError` if one is empty."""
    texts = file.texts(name)
    for row, text in enumerate(texts):
        if not text.strip():
            raise UserError(
                f"{file.where(row)}: the {kind} in column {name!r} is empty: write one, or take the row out."
            )
    return texts


def check_messages(cell: Any, where: str, answered: bool = True) -> list[dict[str, str]]:
    """The messages of a row, each of role and content.

    Where they must be answered, what follows the assistant's last turn is left out: nothing is learned of it.
    """
    if not isinstance(cell, list) or not cell or not all(isinstance(one, dict) for one in cell):
        raise UserError(
            f"{where}: {shorten(cell)} is no list of messages, each such as {{'role': 'user', 'content': 'Hello'}}."
        )
    for number, message in enumerate(cell, 1):
        for name in ("role", "content"):
            if not isinstance(message.get(name), str):
                raise UserError(
                    f"{where}: message {number} has no text as its {name!r}, but {shorten(message.get(name))}."
                )
        if message.get("tool_calls"):
            raise UserError(f"{where}: message {number} calls tools, which is not read: take the row out.")
    talk = [{"role": one["role"], "content": one["content"]} for one in cell]
    if not answered:
        return talk
    last = max((number for number, one in enumerate(talk) if one["role"] == "assistant"), default=None)
    if last is None:
        raise UserError(f"{where}: no message is of the role 'assistant', so there is nothing to learn.")
    for number, one in enumerate(talk[: last + 1], 1):
        if one["role"] == "assistant" and (number == 1 or not one["content"].strip()):
            fault = "stands before what it answers" if number == 1 else "is empty"
            raise UserError(f"{where}: the assistant's message {number} {fault}: write one, or take the row out.")
    return talk[: last + 1]
