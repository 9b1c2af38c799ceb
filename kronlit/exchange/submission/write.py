"""The file that the sites of GLUE and SuperGLUE score: a zip of a table a test set, from what `predict` wrote."""

import json
import zipfile
from pathlib import Path
from typing import Any, Literal

from kronlit.exchange.new_folder import check_new, new_file
from kronlit.exchange.submission import glue, super_glue

Benchmark = Literal["glue", "super_glue"]

TABLES = {"glue": glue, "super_glue": super_glue}
SITES = {"glue": "gluebenchmark.com", "super_glue": "super.gluebenchmark.com"}
DIAGNOSTICS = {"glue": "ax with MNLI's run", "super_glue": "axb and axg with RTE's run"}


def write_submission(predictions: Path, output: Path, benchmark: Benchmark = "glue") -> None:
    """Write the zip.

    Args:
        predictions: a folder with `<task>.jsonl` of every task of the benchmark and of its diagnostics, as `kronlit
            predict` writes them for the official test sets.
        output: the zip.
        benchmark: whose.

    Raises:
        ValueError: if a file is missing, or is not of a whole test set of its task.
    """
    if output.exists():
        raise ValueError(f"`output`={str(output)!r} is there already; give another name.")
    check_new(output)
    test_sets, keys, table = TABLES[benchmark].TEST_SETS, TABLES[benchmark].keys, TABLES[benchmark].table
    missing = sorted({task for task, *_ in test_sets.values() if not (predictions / f"{task}.jsonl").is_file()})
    if missing:
        names = ", ".join(f"{task}.jsonl" for task in missing)
        raise ValueError(
            f"`predictions`={str(predictions)!r} lacks {names}; {SITES[benchmark]} scores all test sets at once: write "
            f"each with `kronlit predict --predictions`, {DIAGNOSTICS[benchmark]}."
        )
    tables = {
        name: table(task, predicted(predictions / f"{task}.jsonl", split, rows, keys(task)))
        for name, (task, split, rows) in test_sets.items()
    }
    with new_file(output) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in tables.items():
            archive.writestr(name, text)


def predicted(file: Path, split: str, rows: int, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of `file` that are of `split`, in their order; each has `keys`."""
    written = []
    with file.open(encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            try:
                row = json.loads(line)
                if row["split"] == split:
                    written.append({key: row[key] for key in keys})
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{str(file)!r}, line {number}, is no line that `kronlit predict` writes.") from error
    if len(written) != rows:
        raise ValueError(
            f"{str(file)!r} has {len(written)} rows of the split {split!r}, and the official test set has {rows}: "
            "predict that (`--data.splits official`), without a limit on its batches."
        )
    return written
