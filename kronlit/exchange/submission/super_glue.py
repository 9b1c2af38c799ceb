"""The tables that super.gluebenchmark.com scores: one JSON object per row, or per paragraph for MultiRC."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.data.tasks.super_glue import SuperGlueTask

Rows = list[dict[str, Any]]


def keys(known: SuperGlueTask) -> tuple[str, ...]:
    """The keys that are read of a predicted row."""
    return ("idx", "answer" if known.task.free_text else "label")


def table(known: SuperGlueTask, rows: Rows) -> str:
    """The table of a test set, after nyu-mll/jiant, the code of the benchmark's authors.

    Args:
        known: its task.
        rows: of each its `keys`, `idx` as the hub's aps/super_glue has it.

    Raises:
        ValueError: if a label is not one of the task's, or a row occurs twice.
    """
    seen = {json.dumps(row["idx"], sort_keys=True) for row in rows}
    if len(seen) < len(rows):
        raise UserError(f"{known.task.name}: {len(rows) - len(seen)} rows have the `idx` of another.")
    return "".join(json.dumps(one) + "\n" for one in objects(known, rows))


def objects(known: SuperGlueTask, rows: Rows) -> Iterable[dict[str, Any]]:
    """The objects of a table."""
    if known.object == "query":
        return ({"idx": row["idx"]["query"], "label": row["answer"]} for row in rows)
    if known.object == "paragraph":
        return paragraphs(known, rows)
    return ({"idx": row["idx"], "label": known.submission(row["label"])} for row in rows)


def paragraphs(known: SuperGlueTask, rows: Rows) -> Iterator[dict[str, Any]]:
    """Paragraphs with their questions, and these with their answers."""
    found: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        idx = row["idx"]
        answers = found.setdefault(idx["paragraph"], {}).setdefault(idx["question"], [])
        answers.append({"idx": idx["answer"], "label": known.submission(row["label"])})
    for paragraph, questions in found.items():
        asked = [{"idx": question, "answers": answers} for question, answers in questions.items()]
        yield {"idx": paragraph, "passage": {"questions": asked}}
