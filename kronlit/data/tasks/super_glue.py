"""The tasks of SuperGLUE: Wang et al., 2019, arXiv:1905.00537.

The class names are those of the hub data set aps/super_glue. Submissions are as nyu-mll/jiant, the code of the
benchmark's authors, writes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from datasets import Dataset

from kronlit.data.super_glue_rows import prepare_multirc, prepare_record, prepare_wsc
from kronlit.data.tasks.benchmark import BenchmarkTask, Table
from kronlit.data.tasks.task import Task, option_values


@dataclass(frozen=True, kw_only=True)
class SuperGlueTask(BenchmarkTask):
    """A task of SuperGLUE.

    Args:
        hub_name: of its configuration on the hub, where that is not the task's name.
        prepare: makes the official rows of a split those of the task; by default they are.
        object: what an object of its table is: the label of a row, the answer to a query, or a paragraph's questions.
    """

    hub_name: str | None = None
    prepare: Callable[[Dataset, str], Dataset] | None = None
    object: Literal["row", "query", "paragraph"] = "row"


NO_YES = ("False", "True")
ENTAILS = ("entailment", "not_entailment")

TASKS = {
    known.task.name: known
    for known in (
        SuperGlueTask(
            task=Task("boolq", ("question", "passage"), NO_YES, source=option_values("question", "passage")),
            tables=(Table("BoolQ.jsonl", 3245),),
            submitted=("false", "true"),
            mahabadi="halves",
        ),
        SuperGlueTask(
            task=Task(
                "cb",
                ("premise", "hypothesis"),
                ("entailment", "contradiction", "neutral"),
                ("macro_f1", "accuracy"),
                option_values("premise", "hypothesis"),
            ),
            tables=(Table("CB.jsonl", 250),),
            mahabadi="halves",
        ),
        SuperGlueTask(
            task=Task(
                "copa",
                ("premise", "choice1", "choice2", "question"),
                ("choice1", "choice2"),
                source=option_values("premise", "choice1", "choice2", "question"),
            ),
            tables=(Table("COPA.jsonl", 500),),
            submitted=(0, 1),
            mahabadi="halves",
        ),
        SuperGlueTask(
            task=Task(
                "multirc",
                ("question", "answer", "paragraph"),
                NO_YES,
                ("f1a", "exact_match"),
                option_values("question", "answer", "paragraph"),
                segments=("{paragraph}", "{question} {answer}"),
            ),
            tables=(Table("MultiRC.jsonl", 9693),),
            submitted=(0, 1),
            mahabadi="halves",
            prepare=lambda rows, split: rows.map(prepare_multirc),
            object="paragraph",
        ),
        SuperGlueTask(
            task=Task(
                "record",
                ("query", "entities", "passage"),
                (),
                ("answer_f1", "answer_exact_match"),
                "record query: {query} entities: {entities} passage: {passage}",
                free_text=True,
            ),
            tables=(Table("ReCoRD.jsonl", 10_000),),
            mahabadi="thousand",
            prepare=lambda rows, split: prepare_record(rows, one_row_an_answer=split == "train"),
            object="query",
        ),
        SuperGlueTask(
            task=Task("rte", ("premise", "hypothesis"), ENTAILS, source=option_values("premise", "hypothesis")),
            tables=(Table("RTE.jsonl", 3000),),
            mahabadi="halves",
        ),
        SuperGlueTask(
            task=Task(
                "wic",
                ("sentence1", "sentence2", "word"),
                NO_YES,
                source=option_values("sentence1", "sentence2", "word"),
                segments=("{word}: {sentence1}", "{sentence2}"),
            ),
            tables=(Table("WiC.jsonl", 1400),),
            submitted=("false", "true"),
            mahabadi="halves",
        ),
        SuperGlueTask(
            task=Task("wsc", ("text",), NO_YES, source=option_values("text")),
            tables=(Table("WSC.jsonl", 146),),
            mahabadi="halves",
            hub_name="wsc.fixed",
            prepare=lambda rows, split: rows.map(prepare_wsc),
        ),
        SuperGlueTask(  # this and the next read as RTE's rows, whose model predicts them
            task=Task(
                "axb",
                ("sentence1", "sentence2"),
                ENTAILS,
                ("matthews",),
                "premise: {sentence1} hypothesis: {sentence2}",
            ),
            tables=(Table("AX-b.jsonl", 1104),),
            predicted_by="rte",
        ),
        SuperGlueTask(
            task=Task("axg", ("premise", "hypothesis"), ENTAILS, source=option_values("premise", "hypothesis")),
            tables=(Table("AX-g.jsonl", 356),),
            predicted_by="rte",
        ),
    )
}
