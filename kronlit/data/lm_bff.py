"""The files of Gao et al., LM-BFF, 2021, arXiv:2012.15723: folders, columns, and the SST files they were made from.

A folder of original data has `<NAME>/train.tsv` and `dev.tsv` (or `train.csv` and `test.csv`). A folder of splits has
`<NAME>/<k>-<seed>/{train,dev,test}.tsv` (or `.csv`). CSV and JSONL files that name their columns may replace them.
"""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.row_file import csv_rows, utf8_text
from kronlit.data.rows import read_labelled_rows
from kronlit.data.tasks import Task
from kronlit.data.tasks.few_shot import FewShotTask
from kronlit.data.tasks.lm_bff_files import Layout

NAMED = (".jsonl", ".csv")
"""Files whose rows name their columns."""


def published_file(folder: Path, layout: Layout, k: int, seed: int, split: str) -> Path | None:
    """The file of a published split, if there is one. A test set may be in the parent folder, shared by all splits."""
    own = folder / layout.name / f"{k}-{seed}"
    stem = {"train": "train", "validation": layout.validation, "test": layout.test}[split]
    names = [stem + suffix for suffix in (layout.suffix, *NAMED)]
    return first_file([*(own / name for name in names), *(own.parent / name for name in names if split == "test")])


def original_file(folder: Path, known: FewShotTask, split: str) -> Path | None:
    """The file of the original training or test rows, if there is one."""
    found = []
    if known.layout:
        found.append(folder / known.layout.name / f"{known.layout.stem(split)}{known.layout.suffix}")
    if known.treebank:
        found.append(folder / f"{known.treebank.name}.{'train' if split == 'train' else known.treebank.test}")
    return first_file(found)


def own_file(folder: Path, known: FewShotTask, split: str, official: str) -> Path | None:
    """The user's own file of the training or test rows, if there is one, named as on the hub or as in LM-BFF."""
    folders, stems = [known.hub_folder], [official, split]
    if known.layout:
        folders, stems = [*folders, known.layout.name], [official, known.layout.stem(split), split]
    return first_file([folder / name / f"{stem}{suffix}" for name in folders for stem in stems for suffix in NAMED])


def first_file(paths: list[Path]) -> Path | None:
    """The first of `paths` that is a file."""
    return next((path for path in paths if path.is_file()), None)


def read(path: Path, known: FewShotTask) -> Dataset:
    """Read a file with LM-BFF's columns, or a file of the treebank. A malformed row gets no text and the label -1.

    If the first line has no label, it is a header.

    Raises:
        ValueError: if it cannot be read, or no row fits the task.
    """
    task, layout = known.task, known.layout
    if path.suffix in NAMED and (layout is None or path.suffix != layout.suffix or has_header(path, task)):
        return read_labelled_rows(path, task)
    if path.suffix not in (".tsv", ".csv"):
        assert known.treebank is not None
        left, right = known.treebank.brackets
        rows = [row[0].replace(left, "(").replace(right, ")").split(" ", 1) for row in tsv_cells(path)]
        layout = Layout("", (1,), 0)
    else:
        assert layout is not None
        rows = csv_cells(path, layout) if path.suffix == ".csv" else tsv_cells(path)
    parsed = [parse(row, layout, task) for row in rows if row]
    if parsed and parsed[0][1] == -1:
        del parsed[0]
    if not any(label != -1 for _, label in parsed):
        raise UserError(
            f"{str(path)!r} has no row of {task.name}: text in column {layout.texts[0] + 1}, and as label "
            f"{', '.join(layout.names) or 'a number'}."
        )
    columns = {column: [texts[i] for texts, _ in parsed] for i, column in enumerate(task.columns)}
    return Dataset.from_dict(columns | {"label": [label for _, label in parsed]})


def has_header(path: Path, task: Task) -> bool:
    """Whether the first line of a CSV file names the columns of a task."""
    _, first = next(csv_rows(path), (1, []))
    return {*task.columns, "label"} <= set(first)


def csv_cells(path: Path, layout: Layout) -> list[list[str]]:
    """The rows of a CSV file; `ValueError` if a row after the first has no whole number as its label."""
    numbered = list(csv_rows(path, width=1 + max(*layout.texts, layout.label)))
    for line, row in numbered[1:]:
        if not row[layout.label].strip().removeprefix("-").isdecimal():
            raise UserError(f"{str(path)!r}, line {line}: the label {row[layout.label]!r} must be the class's number.")
    return [row for _, row in numbered]


def tsv_cells(path: Path) -> list[list[str]]:
    """The rows of a file of tab-separated cells without quotation marks."""
    with utf8_text(path, newline=None) as file:
        return [line.rstrip("\n").split("\t") for line in file]


def parse(row: Sequence[str], layout: Layout, task: Task) -> tuple[list[str], float]:
    """Texts and label of a row; empty texts and -1 if it is malformed. QQP has such rows, which LM-BFF skips."""
    try:
        written = row[layout.label].strip()
        read = layout.names.index if layout.names else float if task.is_regression else int
        return [row[column] for column in layout.texts], read(written)
    except (IndexError, ValueError):
        return ["" for _ in layout.texts], -1
