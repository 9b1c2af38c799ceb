"""The one table of tasks: columns, labels, metrics, and how each reads as text to text."""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Task:
    """What a model needs to know of a task.

    Args:
        name: as in the data set's own configuration name.
        columns: the text columns.
        labels: names of the classes, in the order of their integers; none for regression.
        metrics: names of the metrics (`kronlit.metrics.classification`); the first is reported by the papers, the mean
            selects the checkpoint. For generated texts those of `kronlit.metrics.generation`, and the first selects.
        source: how the columns read as one text for a text-to-text model.
        span: least and greatest number that a regression's label may be.
        validation: names of further validation sets beside the first, as MNLI has.
        segments: how the columns read as one or two texts for a classifier; by default, one or two columns are these.
        free_text: whether the answer is a text of its own; rows then have `answers`, all that are right.
        word_split: whether texts are scored in lower case and with every mark a word of its own, see
            `kronlit.metrics.generation`.
        selection: those of `metrics` whose mean selects the checkpoint; by default all.
    """

    name: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    source: str = ""
    validation: tuple[str, ...] = ()
    span: tuple[float, float] = (0.0, 0.0)
    segments: tuple[str, ...] = ()
    free_text: bool = False
    word_split: bool = False
    selection: tuple[str, ...] = ()

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels and not self.free_text

    @property
    def num_labels(self) -> int:
        """Outputs of a classifier for this task."""
        return max(1, len(self.labels))

    def source_text(self, row: dict[str, str]) -> str:
        """The columns of a row as one text."""
        return self.source.format(**row)

    def classifier_segments(self) -> tuple[str, ...]:
        """Templates of the one or two texts that a classifier reads.

        Raises:
            ValueError: if the task has no such form.
        """
        if self.free_text or not (self.segments or len(self.columns) <= 2):
            raise ValueError(f"{self.name!r} has no form for `SequenceClassification`: use `TextToText`.")
        return self.segments or tuple(f"{{{column}}}" for column in self.columns)

    def target_text(self, label: float) -> str:
        """The label as text: the class's integer, or the number rounded to one decimal."""
        return f"{label:.1f}" if self.is_regression else str(int(label))

    def parse(self, text: str) -> float:
        """The label a generated text stands for; -1 where it stands for none."""
        text = text.strip()
        if not self.is_regression:
            return float(text) if text in map(str, range(len(self.labels))) else -1.0
        return float(text) if re.fullmatch(r"-?\d{1,9}(\.\d+)?", text) else -1.0


def named(*columns: str) -> str:
    """The text-to-text source of columns, each after its name."""
    return " ".join(f"{column}: {{{column}}}" for column in columns)


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
            named("sentence1", "sentence2"),
        ),
        Task(
            "qqp",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
            named("question1", "question2"),
        ),
        Task(
            "stsb",
            ("sentence1", "sentence2"),
            (),
            ("pearson", "spearman"),
            named("sentence1", "sentence2"),
            span=(0.0, 5.0),
        ),
        Task("mnli", ("premise", "hypothesis"), NLI, ("accuracy",), PREMISE_HYPOTHESIS, ("mismatched",)),
        Task(
            "qnli",
            ("question", "sentence"),
            ("entailment", "not_entailment"),
            ("accuracy",),
            named("question", "sentence"),
        ),
        Task(
            "rte",
            ("sentence1", "sentence2"),
            ("entailment", "not_entailment"),
            ("accuracy",),
            named("sentence1", "sentence2"),
        ),
        Task(
            "wnli",
            ("sentence1", "sentence2"),
            ("not_entailment", "entailment"),
            ("accuracy",),
            named("sentence1", "sentence2"),
        ),
        Task("ax", ("premise", "hypothesis"), NLI, ("matthews",), PREMISE_HYPOTHESIS),
    )
}

NO_YES = ("False", "True")

# SuperGLUE: Wang et al., 2019, arXiv:1905.00537. The class names are those of the hub data set aps/super_glue.
SUPER_GLUE_TASKS = {
    task.name: task
    for task in (
        Task("boolq", ("question", "passage"), NO_YES, source=named("question", "passage")),
        Task(
            "cb",
            ("premise", "hypothesis"),
            ("entailment", "contradiction", "neutral"),
            ("macro_f1", "accuracy"),
            named("premise", "hypothesis"),
        ),
        Task(
            "copa",
            ("premise", "choice1", "choice2", "question"),
            ("choice1", "choice2"),
            source=named("premise", "choice1", "choice2", "question"),
        ),
        Task(
            "multirc",
            ("question", "answer", "paragraph"),
            NO_YES,
            ("f1a", "exact_match"),
            named("question", "answer", "paragraph"),
            segments=("{paragraph}", "{question} {answer}"),
        ),
        Task(
            "record",
            ("query", "entities", "passage"),
            (),
            ("answer_f1", "answer_exact_match"),
            "record query: {query} entities: {entities} passage: {passage}",
            free_text=True,
        ),
        Task(
            "rte",
            ("premise", "hypothesis"),
            ("entailment", "not_entailment"),
            source=named("premise", "hypothesis"),
        ),
        Task(
            "wic",
            ("sentence1", "sentence2", "word"),
            NO_YES,
            source=named("sentence1", "sentence2", "word"),
            segments=("{word}: {sentence1}", "{sentence2}"),
        ),
        Task("wsc", ("text",), NO_YES, source=named("text")),
    )
}

# What SuperGLUE's site scores beside its tasks, predicted by RTE's model and so read as its rows.
SUPER_GLUE_DIAGNOSTICS = {
    task.name: task
    for task in (
        Task(
            "axb",
            ("sentence1", "sentence2"),
            ("entailment", "not_entailment"),
            ("matthews",),
            "premise: {sentence1} hypothesis: {sentence2}",
        ),
        Task(
            "axg",
            ("premise", "hypothesis"),
            ("entailment", "not_entailment"),
            source=named("premise", "hypothesis"),
        ),
    )
}

# Texts from data: Novikova et al., 2017, arXiv:1706.09254; Gardent et al., 2017; Nan et al., 2021, arXiv:2007.02871.
GENERATION_TASKS = {
    task.name: task
    for task in (
        Task("e2e", ("context",), (), ("bleu", "nist", "rouge_l", "cider"), "{context}", free_text=True),
        Task("webnlg", ("context",), (), ("bleu", "ter"), "{context}", free_text=True, word_split=True),
        Task("dart", ("context",), (), ("bleu", "ter"), "{context}", free_text=True, word_split=True),
    )
}

NEGATIVE_POSITIVE = ("negative", "positive")
SENTENCE = "sentence: {text}"

MOVIE_REVIEWS = Task("movie_reviews", ("text",), NEGATIVE_POSITIVE, ("accuracy",), SENTENCE)

# The tasks of Gao et al., LM-BFF, 2021, arXiv:2012.15723. Those of GLUE are selected by one metric. Class names are in
# the order of the integers in its files; its sst2 is of sentences, not GLUE's of phrases.
FEW_SHOT_TASKS = {
    task.name: task
    for task in (
        Task("sst2", ("text",), NEGATIVE_POSITIVE, source=SENTENCE),
        Task("sst5", ("text",), ("very negative", "negative", "neutral", "positive", "very positive"), source=SENTENCE),
        Task("mr", ("text",), NEGATIVE_POSITIVE, source=SENTENCE),
        Task("cr", ("text",), NEGATIVE_POSITIVE, source=SENTENCE),
        Task("mpqa", ("text",), NEGATIVE_POSITIVE, source=SENTENCE),
        Task("subj", ("text",), ("subjective", "objective"), source=SENTENCE),
        Task(
            "trec",
            ("text",),
            ("description", "entity", "abbreviation", "human", "location", "number"),
            source="question: {text}",
        ),
        GLUE_TASKS["cola"],
        replace(GLUE_TASKS["mnli"], validation=()),
        replace(GLUE_TASKS["mnli"], name="mnli_mm", validation=()),
        replace(GLUE_TASKS["mnli"], name="snli", validation=()),
        GLUE_TASKS["qnli"],
        GLUE_TASKS["rte"],
        replace(GLUE_TASKS["mrpc"], selection=("f1",)),
        replace(GLUE_TASKS["qqp"], metrics=("f1", "accuracy"), selection=("f1",)),
        replace(GLUE_TASKS["stsb"], selection=("pearson",)),
        MOVIE_REVIEWS,
    )
}
