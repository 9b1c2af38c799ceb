"""The file that gluebenchmark.com scores: a zip of one table a test set, from what `kronlit predict` wrote."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kronlit.data.tasks import GLUE_TASKS

TEST_SETS = {
    "CoLA": ("cola", "test", 1063),
    "SST-2": ("sst2", "test", 1821),
    "MRPC": ("mrpc", "test", 1725),
    "STS-B": ("stsb", "test", 1379),
    "MNLI-m": ("mnli", "test_matched", 9796),
    "MNLI-mm": ("mnli", "test_mismatched", 9847),
    "QNLI": ("qnli", "test", 5463),
    "RTE": ("rte", "test", 3000),
    "WNLI": ("wnli", "test", 146),
    "QQP": ("qqp", "test", 390_965),
    "AX": ("ax", "test", 1104),
}
"""Name of a table in the zip to its task, split and number of rows."""

BY_NAME = ("mnli", "ax", "qnli", "rte")
"""The tasks whose classes are written as words; the others' are numbers."""


def write_submission(predictions: Path, output: Path) -> None:
    """Write the zip.

    Args:
        predictions: a folder with `<task>.jsonl` of every GLUE task and of ax, as `kronlit predict` writes them for
            the official test sets.
        output: the zip.

    Raises:
        ValueError: if a file is missing, or is not of a whole test set of its task.
    """
    if output.exists():
        raise ValueError(f"`output`={str(output)!r} is there already; give another name.")
    missing = sorted({task for task, *_ in TEST_SETS.values() if not (predictions / f"{task}.jsonl").is_file()})
    if missing:
        names = ", ".join(f"{task}.jsonl" for task in missing)
        raise ValueError(
            f"`predictions`={str(predictions)!r} lacks {names}; GLUE scores all test sets at once: write each with "
            "`kronlit predict --predictions`, ax with MNLI's run."
        )
    tables = {
        name: table(predictions / f"{task}.jsonl", split, rows) for name, (task, split, rows) in TEST_SETS.items()
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in tables.items():
            archive.writestr(f"{name}.tsv", text)
    partial.replace(output)


def table(file: Path, split: str, rows: int) -> str:
    """The table of the rows of `file` that are of `split`, in their order."""
    task = file.stem
    written = [prediction(task, label) for found, label in lines(file) if found == split]
    if len(written) != rows:
        raise ValueError(
            f"{str(file)!r} has {len(written)} rows of the split {split!r}, and GLUE's has {rows}: predict the "
            "official test set (`--data.splits official`), without a limit on its batches."
        )
    return "index\tprediction\n" + "".join(f"{index}\t{value}\n" for index, value in enumerate(written))


def lines(file: Path) -> Iterator[tuple[str, str | float]]:
    """Split and label of each row."""
    with file.open(encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            try:
                row = json.loads(line)
                yield row["split"], row["label"]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{str(file)!r}, line {number}, is no line that `kronlit predict` writes.") from error


def prediction(task: str, label: str | float) -> str:
    """A label as GLUE reads it."""
    described = GLUE_TASKS[task]
    if described.is_regression and isinstance(label, float):
        low, high = described.span
        return f"{min(max(label, low), high):.3f}"
    if label not in described.labels:
        there = ", ".join(described.labels) or "numbers"
        raise ValueError(f"{label!r} is no label of {task}, which has {there}.")
    return str(label) if task in BY_NAME else str(described.labels.index(str(label)))
