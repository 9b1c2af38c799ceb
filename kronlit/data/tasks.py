"""The one table of tasks: columns, labels, metrics, and how each reads as text to text."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a model needs to know of a task.

    Args:
        name: as in the data set's own configuration name.
        columns: the text columns, one or two, in the order a classifier reads them.
        labels: names of the classes, in the order of their integers; none for regression.
        metrics: names of the metrics (`kronlit.metrics`); the first is reported by the papers, their mean selects
            the checkpoint.
        source: how the columns read as one text for a text-to-text model.
        span: least and greatest number that a regression's label may be.
        validation: names of further validation sets beside the first, as MNLI has.
    """

    name: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    source: str = ""
    validation: tuple[str, ...] = ()
    span: tuple[float, float] = (0.0, 0.0)

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Outputs of a classifier for this task."""
        return max(1, len(self.labels))

    def source_text(self, row: dict[str, str]) -> str:
        """The columns of a row as one text."""
        return self.source.format(**row)

    def target_text(self, label: float) -> str:
        """The label as text: the class's integer, or the number rounded to one decimal."""
        return f"{label:.1f}" if self.is_regression else str(int(label))

    def parse(self, text: str) -> float:
        """The label a generated text stands for; -1 where it stands for none."""
        text = text.strip()
        if not self.is_regression:
            return float(text) if text in map(str, range(len(self.labels))) else -1.0
        return float(text) if re.fullmatch(r"-?\d{1,9}(\.\d+)?", text) else -1.0


def pair(first: str, second: str) -> str:
    """The text-to-text source of two columns."""
    return f"{first}: {{{first}}} {second}: {{{second}}}"


NLI = ("entailment", "neutral", "contradiction")
PREMISE_HYPOTHESIS = "premise: {premise} hypothesis {hypothesis}"  # the authors' code has no second colon

# Sources after Mahabadi et al., Compacter, 2021, arXiv:2106.04647, their code's seq2seq/data/tasks.py. The class names
# are those of the hub data set nyu-mll/glue.
GLUE_TASKS = {
    task.name: task
    for task in (
        Task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), "sentence: {sentence}"),
        Task("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), "sentence: {sentence}"),
        Task(
            "mrpc",
            ("sentence1", "sentence2"),
            ("not_equivalent", "equivalent"),
            ("f1", "accuracy"),
            pair("sentence1", "sentence2"),
        ),
        Task(
            "qqp",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
            pair("question1", "question2"),
        ),
        Task(
            "stsb",
            ("sentence1", "sentence2"),
            (),
            ("pearson", "spearman"),
            pair("sentence1", "sentence2"),
            span=(0.0, 5.0),
        ),
        Task("mnli", ("premise", "hypothesis"), NLI, ("accuracy",), PREMISE_HYPOTHESIS, ("mismatched",)),
        Task(
            "qnli",
            ("question", "sentence"),
            ("entailment", "not_entailment"),
            ("accuracy",),
            pair("question", "sentence"),
        ),
        Task(
            "rte",
            ("sentence1", "sentence2"),
            ("entailment", "not_entailment"),
            ("accuracy",),
            pair("sentence1", "sentence2"),
        ),
        Task(
            "wnli",
            ("sentence1", "sentence2"),
            ("not_entailment", "entailment"),
            ("accuracy",),
            pair("sentence1", "sentence2"),
        ),
        Task("ax", ("premise", "hypothesis"), NLI, ("matthews",), PREMISE_HYPOTHESIS),
    )
}

MOVIE_REVIEWS = Task("movie_reviews", ("text",), ("negative", "positive"), ("accuracy",), "sentence: {text}")
