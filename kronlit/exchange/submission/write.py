"""Writes the zip that the sites of GLUE and SuperGLUE score: a table for each test set, from predictions."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kronlit.config.user_error import UserError
from kronlit.data import tasks
from kronlit.data.tasks.benchmark import BenchmarkTask
from kronlit.exchange.new_folder import check_new, new_file
from kronlit.exchange.submission import glue, super_glue

Benchmark = Literal["glue", "super_glue"]

TASKS: dict[str, Mapping[str, BenchmarkTask]] = {"glue": tasks.glue.TASKS, "super_glue": tasks.super_glue.TASKS}
FORMS = {"glue": glue, "super_glue": super_glue}
SITES = {"glue": "gluebenchmark.com", "super_glue": "super.gluebenchmark.com"}


def write_submission(predictions: Path, output: Path, benchmark: Benchmark = "glue") -> None:
    """Write the zip.

    Args:
        predictions: a folder with the `<task>.jsonl` of every task and diagnostic of the benchmark, as `kronlit
            predict` writes them for the official test sets.
        output: the zip to write.
        benchmark: the benchmark.

    Raises:
        ValueError: if a file is missing, or does not cover its whole test set.
    """
    if output.exists():
        raise UserError(f"`output`={str(output)!r} is there already; give another name.")
    check_new(output)
    form, known = FORMS[benchmark], {task: known for task, known in TASKS[benchmark].items() if known.tables}
    missing = sorted(task for task in known if not (predictions / f"{task}.jsonl").is_file())
    if missing:
        names = ", ".join(f"{task}.jsonl" for task in missing)
        raise UserError(
            f"`predictions`={str(predictions)!r} lacks {names}; {SITES[benchmark]} scores all test sets at once: write "
            f"each with `kronlit predict --predictions`, {diagnostics(benchmark)}."
        )
    tables = {
        table.name: form.table(
            its, predicted_rows(predictions / f"{task}.jsonl", table.split, table.rows, form.keys(its))
        )
        for task, its in known.items()
        for table in its.tables
    }
    with new_file(output) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in tables.items():
            archive.writestr(name, text)


def diagnostics(benchmark: Benchmark) -> str:
    """Whose models predict the diagnostic test sets, for a message."""
    model = {task: known.predicted_by for task, known in TASKS[benchmark].items() if known.predicted_by}
    return ", ".join(
        f"{' and '.join(task for task in model if model[task] == its)} with {its.upper()}'s run"
        for its in dict.fromkeys(model.values())
    )


def predicted_rows(file: Path, split: str, rows: int, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a split in `file`, in their order, with only the keys `keys`."""
    written = []
    with file.open(encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            try:
                row = json.loads(line)
                if row["split"] == split:
                    written.append({key: row[key] for key in keys})
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{str(file)!r}, line {number}, is no line that `kronlit predict` writes.") from error
    if len(written) != rows:
        raise UserError(
            f"{str(file)!r} has {len(written)} rows of the split {split!r}, and the official test set has {rows}: "
            "predict that (`--data.splits official`), without a limit on its batches."
        )
    return written
