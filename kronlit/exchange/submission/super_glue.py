"""The tables that super.gluebenchmark.com scores: a JSON object a row, MultiRC's a paragraph."""

import json
from collections.abc import Iterator
from typing import Any

from kronlit.data.tasks import SUPER_GLUE_DIAGNOSTICS, SUPER_GLUE_TASKS

TEST_SETS = {
    "BoolQ.jsonl": ("boolq", "test", 3245),
    "CB.jsonl": ("cb", "test", 250),
    "COPA.jsonl": ("copa", "test", 500),
    "MultiRC.jsonl": ("multirc", "test", 9693),
    "ReCoRD.jsonl": ("record", "test", 10_000),
    "RTE.jsonl": ("rte", "test", 3000),
    "WiC.jsonl": ("wic", "test", 1400),
    "WSC.jsonl": ("wsc", "test", 146),
    "AX-b.jsonl": ("axb", "test", 1104),
    "AX-g.jsonl": ("axg", "test", 356),
}
"""Name of a table in the zip to its task, split and number of rows."""


def keys(task: str) -> tuple[str, ...]:
    """What is read of a predicted row."""
    return ("idx", "answer" if task == "record" else "label")


def table(task: str, rows: list[dict[str, Any]]) -> str:
    """The table of a test set, after nyu-mll/jiant, the code of the benchmark's authors.

    Args:
        task: its name.
        rows: of each its `keys`, `idx` as the hub's aps/super_glue has it.

    Raises:
        ValueError: if a label is none of the task's, or a row comes twice.
    """
    seen = {json.dumps(row["idx"], sort_keys=True) for row in rows}
    if len(seen) < len(rows):
        raise ValueError(f"{task}: {len(rows) - len(seen)} rows have the `idx` of another.")
    lines = paragraphs(rows) if task == "multirc" else (line(task, row) for row in rows)
    return "".join(json.dumps(one) + "\n" for one in lines)


def line(task: str, row: dict[str, Any]) -> dict[str, Any]:
    """The object of a row."""
    if task == "record":
        return {"idx": row["idx"]["query"], "label": row["answer"]}
    label = number(task, row["label"])
    words = {"boolq": ("false", "true"), "wic": ("false", "true"), "copa": (0, 1)}
    return {"idx": row["idx"], "label": words[task][label] if task in words else row["label"]}


def number(task: str, label: str) -> int:
    """The class of a label."""
    labels = (SUPER_GLUE_TASKS | SUPER_GLUE_DIAGNOSTICS)[task].labels
    if label not in labels:
        raise ValueError(f"{label!r} is no label of {task}, which has {', '.join(labels)}.")
    return labels.index(label)


def paragraphs(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """MultiRC's objects: a paragraph's questions, and their answers."""
    found: dict[int, dict[int, list[dict[str, int]]]] = {}
    for row in rows:
        idx = row["idx"]
        answers = found.setdefault(idx["paragraph"], {}).setdefault(idx["question"], [])
        answers.append({"idx": idx["answer"], "label": number("multirc", row["label"])})
    for paragraph, questions in found.items():
        asked = [{"idx": question, "answers": answers} for question, answers in questions.items()]
        yield {"idx": paragraph, "passage": {"questions": asked}}
