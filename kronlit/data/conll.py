"""Reads the files of CoNLL's shared tasks: a token a line, with its tags in columns, and a blank line between rows."""

from collections.abc import Iterator
from pathlib import Path

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile, utf8_text

START = "-DOCSTART-"
"""The token that stands for the begin of a document in CoNLL-2003, and is none of its text."""

Line = tuple[int, list[str]]
"""The number of a line and its columns."""


def read_conll(path: Path, token: int | None = None, tag: int | None = None) -> RowFile:
    """The rows of a file, as the columns `tokens` and `tags`; without tags if there is one column alone.

    Columns are separated by tabs or else by spaces.

    Args:
        path: the file. In one that ends in .conllu, comments and tokens that are no words of their own are left out.
        token: the column of the tokens, from 0; by default the first one, in .conllu the second.
        tag: the column of the tags; by default the last one, in .conllu the fourth. A negative one counts from the end.

    Raises:
        ValueError: if a line has more columns than others or fewer, or there is no such column, or no row.
    """
    conllu = path.suffix.lower() == ".conllu"
    token = token if token is not None else int(conllu)
    tag = tag if tag is not None else 3 if conllu else -1
    sentences = list(read_sentences(path, conllu))
    if not sentences:
        raise UserError(
            f"{str(path)!r} has no rows; it needs lines of a token and its tag, and blank ones between rows."
        )
    width = len(sentences[0][0][1])
    for number, columns in (line for sentence in sentences for line in sentence):
        if len(columns) != width:
            raise UserError(
                f"{str(path)!r}, line {number}: {len(columns)} columns where other lines have {width}: write the tag "
                "of each token on its line, and separate all columns alike."
            )
    for name, column in (("tokens", token), ("tags", tag)):
        if not -width <= column < width:
            raise UserError(
                f"`data.columns`: {name} are in column {column}, and {str(path)!r} has {width}, counted from 0."
            )
    found = {"tokens": [[columns[token] for _, columns in sentence] for sentence in sentences]}
    if width > 1:
        found["tags"] = [[columns[tag] for _, columns in sentence] for sentence in sentences]
    return RowFile(str(path), found, [sentence[0][0] for sentence in sentences], range(1, len(sentences) + 1))


def read_sentences(path: Path, conllu: bool) -> Iterator[list[Line]]:
    """The lines of each row."""
    with utf8_text(path, newline=None) as file:
        sentence: list[Line] = []
        for number, text in enumerate(file, 1):
            line = text.rstrip("\n")
            if not line.strip():
                if sentence:
                    yield sentence
                sentence = []
                continue
            columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
            if columns[0] != START and not (conllu and not columns[0].isdecimal()):
                sentence.append((number, columns))
    if sentence:
        yield sentence
