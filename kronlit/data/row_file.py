"""A strict reader of CSV and JSONL files. It refuses what could be read in two ways, and names the line."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kronlit.config.user_error import UserError

LONGEST_CELL = 2**31 - 1
"""Characters: the csv module's default of 131,072 is too small for long documents; Windows allows no more than this."""

DEEPEST = 100
"""The deepest nesting of values: Python can read much deeper ones that it cannot write again."""


@dataclass(frozen=True)
class RowFile:
    """The rows of a file, by column.

    Args:
        path: of the file.
        columns: the cells of each column, by name. In JSONL, a cell is `None` if its row has no such key.
        lines: the line on which each row begins, counted from 1 as editors do; empty for a file without lines.
        numbers: the number of each row in the file, counted from 1.
        classes: the names of the classes of columns for which the file itself says them.
    """

    path: str
    columns: dict[str, list[Any]]
    lines: list[int]
    numbers: Sequence[int]
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def where(self, row: int) -> str:
        """The place of row number `row` (from 0) in the file, for a message."""
        line = f", line {self.lines[row]}" if self.lines else ""
        return f"{self.path!r}{line}, row {self.numbers[row]}"

    def select(self, rows: list[int]) -> "RowFile":
        """Keep only these rows."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.columns.items()}
        lines = [self.lines[row] for row in rows] if self.lines else []
        return RowFile(self.path, columns, lines, [self.numbers[row] for row in rows], self.classes)

    def check_column(self, column: str, kind: str, hint: str = "") -> None:
        """Raise `ValueError` unless there is such a column; `kind` says in the message what it should hold."""
        if column in self.columns:
            return
        spaced = [name for name in self.columns if name.strip() == column]
        cure = f" {spaced[0]!r} has a space around its name: take it away." if spaced else hint
        raise UserError(f"{self.where(0)}: no {kind} in column {column!r}; it has {', '.join(self.columns)}.{cure}")

    def texts(self, column: str) -> list[str]:
        """The cells of a column of texts; `ValueError` if a cell is missing or not a text."""
        self.check_column(column, "text")
        cells = self.columns[column]
        for row, cell in enumerate(cells):
            if not isinstance(cell, str):
                there = "which is null or not there: write one" if cell is None else f"but {shorten(cell)}: quote it"
                raise UserError(f"{self.where(row)}: no text in column {column!r}, {there}.")
        return cells


def read_row_file(path: str | Path, needed: str) -> RowFile:
    """Read a CSV or JSONL file; `needed` says in messages what it must have.

    Raises:
        ValueError: if the file is missing, of another kind, empty, or ambiguous.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; give a .csv or .jsonl file with {needed}.")
    if kind not in (".csv", ".jsonl"):
        raise UserError(f"{str(path)!r} must be a .csv or .jsonl file with {needed}.")
    file = read_csv(path) if kind == ".csv" else read_jsonl(path)
    if not file.lines:
        raise UserError(f"{str(path)!r} has no rows; it needs at least one, with {needed}.")
    return file


def read_csv(path: Path) -> RowFile:
    """The rows of a CSV file with a header."""
    numbered = csv_rows(path)
    line, names = next(numbered, (1, []))
    for name in filter(None, names):  # columns without a name, which spreadsheets leave at the end, may be several
        if names.count(name) > 1:
            raise UserError(f"{str(path)!r}, line {line}: {names.count(name)} columns are named {name!r}: rename one.")
    columns: list[list[str]] = [[] for _ in names]
    lines = []
    for line, cells in numbered:  # fills the columns directly: a million lists would keep the garbage collector busy
        lines.append(line)
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
    return RowFile(str(path), dict(zip(names, columns, strict=True)), lines, range(1, len(lines) + 1))


def csv_rows(path: Path, width: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of each row of a CSV file. Blank lines are skipped.

    Raises:
        ValueError: if a quotation mark is unbalanced, or a row does not have `width` cells; by default, as many as the
            first row.
    """
    csv.field_size_limit(LONGEST_CELL)
    line = 1
    with utf8_text(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and (width == 1 or cells[0].strip())):
                    width = width or len(cells)
                    if len(cells) != width:
                        raise UserError(f"{str(path)!r}, line {line}: {wrong_cell_count(cells, width)}")
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{str(path)!r}, line {line}: a quotation mark that is not closed, or is alone within a quoted text "
                f"({error}, on line {reader.line_num}): close it, or write it twice where it is part of the text."
            ) from error


def wrong_cell_count(cells: list[str], width: int) -> str:
    """The message for a row with too many or too few cells, and how to fix it."""
    found = f"{len(cells)} cell{'s' * (len(cells) > 1)} where {width} {'are' if width > 1 else 'is'} expected"
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return f"{found}, the last of them empty: take away the commas at the line's end, or name those columns."
    if any("\n" in cell or "\r" in cell for cell in cells):
        return (
            f"{found}, one of them of several lines: if that is more than its text, close its quotation mark where the "
            'text ends; else put a text that has a comma in it in quotation marks, "like, this".'
        )
    if len(cells) > width:
        return f'{found}: put a text that has a comma in it in quotation marks, "like, this".'
    return f"{found}: write what is missing, or its comma alone."


def read_jsonl(path: Path) -> RowFile:
    """Read a file with one JSON object per line."""
    lines, rows = [], []
    with utf8_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                rows.append(json_object(line, f"{str(path)!r}, line {number}"))
                lines.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    return RowFile(
        str(path), {name: [row.get(name) for row in rows] for name in names}, lines, range(1, len(lines) + 1)
    )


def json_object(line: str, where: str) -> dict[str, Any]:
    """Parse a line as a JSON object; `ValueError`, which names `where`, if it is none or cannot be stored."""
    try:
        row = DECODER.decode(line)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
        if line.count("[") + line.count("{") > DEEPEST and is_deeper(row, DEEPEST):
            raise RecursionError
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):x}"
        raise UserError(f"{where}: {half} is half a character: write both halves, or \\ufffd in its place.") from error
    except RecursionError as error:
        raise UserError(f"{where}: values lie in values more than {DEEPEST} deep: take them out.") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: no JSON object ({error.msg}, character {error.pos + 1}): each line must be one, whole."
        ) from error
    except ValueError as error:  # a duplicate key, or more digits than Python reads as a number
        raise UserError(f"{where}: {error}.") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: {shorten(row)} is no JSON object: each line must be one, such as {{'text': 'a'}}.")
    return row


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; `ValueError` if a key occurs twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"the key {twice!r} is there twice: rename or drop one")
    return row


DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def is_deeper(value: Any, depth: int) -> bool:
    """Whether values are nested more than `depth` deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (depth == 0 or any(is_deeper(one, depth - 1) for one in inner))


def shorten(value: Any) -> str:
    """A value cut to a few characters, for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"


@contextmanager
def utf8_text(path: Path, newline: str | None = "") -> Iterator[TextIO]:
    """Open a file as UTF-8 text, with or without the byte-order mark that Excel writes.

    Raises:
        ValueError: if it cannot be read, or is not UTF-8; the message names the line.
    """
    cannot = f"{str(path)!r} cannot be read as UTF-8 {path.suffix[1:]}"
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
            raise UserError(f"{cannot}: it begins as UTF-16 does; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`).")
        with path.open(encoding="utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError as error:
        raise UserError(
            f"{cannot}: {undecodable_byte(path)}; save it as UTF-8 (if it is Latin-1: `iconv -f LATIN1 -t UTF-8`)."
        ) from error
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error


def undecodable_byte(path: Path) -> str:
    """Where a file has its first byte that is not UTF-8, for a message."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"byte 0x{line[error.start]:02x} on line {number}"
    return "a byte"
