"""Takes texts and labels from rows, and refuses or skips those without text or label."""

from typing import Any, Literal, NoReturn

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile, shorten

EmptyRows = Literal["refuse", "skip"]


def labelled_rows(
    file: RowFile, columns: tuple[str, ...], label: str, named: tuple[str, ...], empty_rows: EmptyRows
) -> tuple[RowFile, list[str], list[str]]:
    """The rows of a file, their labels as text, and the places of empty rows, which are left out.

    Args:
        file: the rows as they are there.
        columns: the columns of text.
        label: the column of the label.
        named: the classes, if they are known; `nan` counts as a label only if it is one of them.
        empty_rows: what to do with rows that have no label, or no text in any column.

    Raises:
        ValueError: if a column is missing, or a row is empty and `empty_rows` is `refuse`.
    """
    for column in columns:
        file.check_column(column, "text")
    file.check_column(label, "label", " `data.label` names the column; a CSV is separated by commas.")
    labels = [label_text(value, named) for value in file.columns[label]]
    for row, text in enumerate(labels):
        if "\n" in text or isinstance(file.columns[label][row], list | dict):
            raise UserError(
                f"{file.where(row)}: the label {shorten(file.columns[label][row])} must be a text in one line, or a "
                "number: close the quotation mark that it may begin with where it ends."
            )
    cells = zip(*(file.columns[column] for column in columns), strict=True)
    full = [row for row, (text, texts) in enumerate(zip(labels, cells, strict=True)) if text and has_text(texts)]
    if len(full) == len(labels):
        return file, labels, []
    empty = sorted(set(range(len(labels))) - set(full))
    for row in empty:
        if empty_rows == "refuse":
            raise_bad_row(file, row, columns, label, labels[row])
    if not full:
        raise UserError(f"{file.path!r} has no row with a text and a label.")
    return file.select(full), [labels[row] for row in full], [file.where(row) for row in empty]


def label_text(value: Any, named: tuple[str, ...]) -> str:
    """A label as text; empty if there is none, which means null, NaN, or neither text nor number nor truth value."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    return "" if text.lower() == "nan" and text not in named else text


def has_text(cells: tuple[Any, ...]) -> bool:
    """Whether at least one cell has text, and no cell is null."""
    return None not in cells and any(not isinstance(cell, str) or cell.strip() for cell in cells)


def raise_bad_row(file: RowFile, row: int, columns: tuple[str, ...], label: str, text: str) -> NoReturn:
    """Raise `ValueError` for a row without text, or without a label; `text` is its label."""
    where, value = file.where(row), file.columns[label][row]
    cure = "write one, or leave such rows out with `data.empty_rows`=skip"
    if text:
        raise UserError(f"{where}: no text in column {' or '.join(map(repr, columns))}: {cure}.")
    if str(value).strip().lower() == "nan":
        raise UserError(
            f"{where}: the label is {value}, which stands in rows without a label: {cure}; if it is a class, name the "
            "classes as `data.labels`."
        )
    raise UserError(
        f"{where}: no label in column {label!r}, which is empty there: {cure}; rows without labels are for "
        "`data.predict_file`."
    )
