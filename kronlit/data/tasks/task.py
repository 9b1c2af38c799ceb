"""What a model needs to know of a task: columns, labels, metrics, and how it reads as text to text."""

import re
from dataclasses import dataclass

from kronlit.config.user_error import UserError


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
        form: how rows of free text are told apart in prompt and target by a causal language model: `prompt`, `messages`
            or `text` (`kronlit.data.InstructionFiles`); by default as LoRA's code does for E2E.
        jobs: the modules that read its rows, where these are no texts with one label or answer.
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
    form: str = ""
    jobs: tuple[str, ...] = ()

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
            raise UserError(f"{self.name!r} has no form for `SequenceClassification`: use `TextToText`.")
        return self.segments or tuple(f"{{{column}}}" for column in self.columns)

    def target_text(self, label: float) -> str:
        """The label as text: the class's integer, or the number rounded to one decimal."""
        return f"{label:.1f}" if self.is_regression else str(int(label))

    def parse(self, text: str) -> float:
        """The label that a generated text stands for; -1 if it stands for none."""
        text = text.strip()
        if not self.is_regression:
            return float(text) if text in map(str, range(len(self.labels))) else -1.0
        return float(text) if re.fullmatch(r"-?\d{1,9}(\.\d+)?", text) else -1.0


def option_values(*columns: str) -> str:
    """A text-to-text template in which each column follows its name."""
    return " ".join(f"{column}: {{{column}}}" for column in columns)
