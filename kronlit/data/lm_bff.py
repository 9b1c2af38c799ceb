"""The files of Gao et al., LM-BFF, 2021, arXiv:2012.15723: their folders, columns, and the SST files they come of.

A folder of original data has `<NAME>/train.tsv` and `dev.tsv` (or `train.csv` and `test.csv`), one of splits has
`<NAME>/<k>-<seed>/{train,dev,test}.tsv` (or `.csv`). In their place may be CSV and JSONL files that name the columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from kronlit.data.row_file import csv_rows, utf8_text
from kronlit.data.rows import read_labelled_rows
from kronlit.data.tasks import Task


@dataclass(frozen=True)
class Layout:
    """How a task lies in LM-BFF's folders.

    Args:
        name: of its folder.
        texts: numbers of the columns of text, counted from 0.
        label: number of the column of the label.
        names: the labels as they are written, in the order of their integers; by default the integers.
        suffix: of its files.
    """

    name: str
    texts: tuple[int, ...]
    label: int
    names: tuple[str, ...] = ()
    suffix: str = ".tsv"


NLI = ("entailment", "neutral", "contradiction")
YES_NO = ("entailment", "not_entailment")

LAYOUTS = {
    "sst2": Layout("SST-2", (0,), 1),
    "cola": Layout("CoLA", (3,), 1),
    "mnli": Layout("MNLI", (8, 9), -1, names=NLI),
    "mnli_mm": Layout("MNLI", (8, 9), -1, names=NLI),
    "snli": Layout("SNLI", (7, 8), -1, names=NLI),
    "qnli": Layout("QNLI", (1, 2), -1, names=YES_NO),
    "rte": Layout("RTE", (1, 2), -1, names=YES_NO),
    "mrpc": Layout("MRPC", (3, 4), 0),
    "qqp": Layout("QQP", (3, 4), 5),
    "stsb": Layout("STS-B", (7, 8), -1),
} | {
    task: Layout(name, (1,), 0, suffix=".csv")
    for task, name in {"sst5": "sst-5", "mr": "mr", "cr": "cr", "mpqa": "mpqa", "subj": "subj", "trec": "trec"}.items()
}

STANFORD = {"sst2": ("stsa.binary", "dev"), "sst5": ("stsa.fine", "test")}
"""Tasks of sentences of the Stanford treebank: the beginning of its files' names, and the split to test on."""
BRACKETS = {"sst2": ("-lrb- ", " -rrb-"), "sst5": ("-lrb-", "-rrb-")}
"""What these files have for `(` and `)`; LM-BFF's have the brackets, in sst2 without the space inside them."""

DEVELOPMENT = {"mnli": "dev_matched", "mnli_mm": "dev_matched"}
TEST = {"mnli": "test_matched", "mnli_mm": "test_mismatched"}
OFFICIAL = {"mnli": "dev_matched", "mnli_mm": "dev_mismatched"}
"""Names of files that are not dev, test, and (of the original data) dev or, in a CSV, test."""

NAMED = (".jsonl", ".csv")
"""Files whose rows name their columns."""


def published(folder: Path, task: Task, k: int, seed: int, split: str) -> Path | None:
    """The file of a published split, if there is one; a test set may lie above the splits, which share it."""
    layout = LAYOUTS[task.name]
    own = folder / layout.name / f"{k}-{seed}"
    stem = {"train": "train", "validation": DEVELOPMENT.get(task.name, "dev"), "test": TEST.get(task.name, "test")}
    names = [stem[split] + suffix for suffix in (layout.suffix, *NAMED)]
    return first_file([*(own / name for name in names), *(own.parent / name for name in names if split == "test")])


def original(folder: Path, task: Task, split: str) -> Path | None:
    """The file of the original training or test rows, if there is one."""
    layout = LAYOUTS[task.name]
    found = [folder / layout.name / f"{original_stem(task, split)}{layout.suffix}"]
    if task.name in STANFORD:
        begin, test = STANFORD[task.name]
        found.append(folder / f"{begin}.{'train' if split == 'train' else test}")
    return first_file(found)


def own(folder: Path, task: Task, split: str, official: str) -> Path | None:
    """The file of one's own of the training or test rows, if there is one, by the hub's name or LM-BFF's."""
    folders = dict.fromkeys((task.name.removesuffix("_mm"), LAYOUTS[task.name].name))
    stems = dict.fromkeys((official, original_stem(task, split), split))
    return first_file([folder / name / f"{stem}{suffix}" for name in folders for stem in stems for suffix in NAMED])


def original_stem(task: Task, split: str) -> str:
    """The name of the original training or test file, without its suffix."""
    plain = "dev" if LAYOUTS[task.name].suffix == ".tsv" else "test"
    return "train" if split == "train" else OFFICIAL.get(task.name, plain)


def first_file(paths: list[Path]) -> Path | None:
    """The first that is a file."""
    return next((path for path in paths if path.is_file()), None)


def read(path: Path, task: Task) -> Dataset:
    """The rows of a file in LM-BFF's columns, or of one of the treebank; a malformed row has no text and label -1.

    A first line without a label names the columns.

    Raises:
        ValueError: if it cannot be read, or none of its rows is one of the task.
    """
    layout = LAYOUTS[task.name]
    if path.suffix in NAMED and (path.suffix != layout.suffix or has_header(path, task)):
        return read_labelled_rows(path, task)
    rows = csv_cells(path, layout) if path.suffix == ".csv" else tsv_cells(path)
    if path.suffix not in (".tsv", ".csv"):
        left, right = BRACKETS[task.name]
        rows = [row[0].replace(left, "(").replace(right, ")").split(" ", 1) for row in rows]
        layout = Layout("", (1,), 0)
    parsed = [parse(row, layout, task) for row in rows if row]
    if parsed and parsed[0][1] == -1:
        del parsed[0]
    if not any(label != -1 for _, label in parsed):
        raise ValueError(
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
    """The rows of a CSV file; `ValueError` where one but the first has no whole number as its label."""
    numbered = list(csv_rows(path, width=1 + max(*layout.texts, layout.label)))
    for line, row in numbered[1:]:
        if not row[layout.label].strip().removeprefix("-").isdecimal():
            raise ValueError(f"{str(path)!r}, line {line}: the label {row[layout.label]!r} must be the class's number.")
    return [row for _, row in numbered]


def tsv_cells(path: Path) -> list[list[str]]:
    """The rows of a file without quotation marks, its cells apart by tabulators."""
    with utf8_text(path, newline=None) as file:
        return [line.rstrip("\n").split("\t") for line in file]


def parse(row: Sequence[str], layout: Layout, task: Task) -> tuple[list[str], float]:
    """Texts and label of a row; empty texts and -1 if it is malformed (QQP has some, which LM-BFF's code skips)."""
    try:
        written = row[layout.label].strip()
        read = layout.names.index if layout.names else float if task.is_regression else int
        return [row[column] for column in layout.texts], read(written)
    except (IndexError, ValueError):
        return ["" for _ in layout.texts], -1
