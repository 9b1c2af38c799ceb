"""`kronlit rows`: the first rows as a model reads them, and what of them is learned. Its help needs no torch."""

import os
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError

if TYPE_CHECKING:
    from kronlit.data import TaskData
    from kronlit.modules import FrozenPLM
    from kronlit.modules.text import TextModule

OWN = ("--split", "--count")
GREEN, PLAIN = "\x1b[32m", "\x1b[0m"

Piece = tuple[str, bool]
"""A text, and whether it is learned."""


def rows_command(words: list[str]) -> None:
    """Run the words after `kronlit rows`."""
    parser = Parser(
        prog="kronlit rows",
        usage="kronlit rows --config FILE.yaml ...",
        description="Show the first rows of a `kronlit fit` as the model will read them, with all special tokens. What "
        "is learned is green; where colours cannot be shown, it stands in [[ ]]. It takes all options of `kronlit "
        "fit`, and loads the tokenizer alone.",
    )
    parser.add_argument("--split", type=Literal["train", "validation", "test"], default="train", help="Which rows.")
    parser.add_argument("--count", type=int, default=3, help="How many.")
    with one_line():
        own, rest = split_words(words, OWN)
        config = parser.parse_args(own)
        if config.count < 1:
            raise UserError(f"`count`={config.count} must be at least 1.")
        from kronlit.cli.configs import fit_config
        from kronlit.config.instances import instance
        from kronlit.data import TaskData
        from kronlit.exchange.saved_run import module_from_config, section
        from kronlit.studies.retired import current_words

        whole = fit_config(current_words(rest))
        data: TaskData = instance(TaskData, section(whole, "data"), "data", {})
        module = module_from_config(whole, data.task)
        for line in show_rows(module, data, config.split, config.count):
            print(line)


def split_words(words: list[str], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Split the words into those of this command, which has options of some names, and those of the fit."""
    own: list[str] = []
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in ("-h", "--help") or word.startswith(tuple(f"{name}=" for name in names)):
            own.append(word)
        elif word in names:
            own += [word, *waiting[:1]]
            del waiting[:1]
        else:
            rest.append(word)
    return own, rest


def show_rows(module: "FrozenPLM", data: "TaskData", split: str, count: int) -> Iterator[str]:
    """The first rows of a split, each with a line on it before it.

    Raises:
        ValueError: if they are no texts.
    """
    from kronlit.modules.text import TextModule

    if not isinstance(module, TextModule):
        raise UserError(f"`kronlit rows` shows texts, and a {type(module).__name__} reads none.")
    rows = data.rows(split)
    columns: dict[str, list[Any]] = rows[:count]
    tokens = module.encode(columns)
    for row in range(len(tokens["input_ids"])):
        features = {name: column[row] for name, column in tokens.items()}
        label = columns["label"][row] if "label" in columns else None
        pieces = list(learned_pieces(module, features, label))
        place = columns["where"][row] if "where" in columns else f"{module.task.name}/{split}, row {row + 1}"
        yield f"# {place}: {heading(features)}"
        yield "".join(mark(text) if learned else text for text, learned in pieces)
        yield ""
    yield f"# {min(count, len(rows))} of {len(rows)} rows of {module.task.name}/{split}"


def heading(features: dict[str, Any]) -> str:
    """The number of tokens, of targets among them, and what became of a row that is too long."""
    said = f"{len(features['input_ids'])} tokens"
    if "labels" in features:
        said += f", {sum(label >= 0 for label in features['labels'])} of them targets"
    return f"{said}, {features['cut']}" if features.get("cut") else said


def learned_pieces(module: "TextModule", features: dict[str, Any], label: float | None) -> Iterator[Piece]:
    """The text of a row by pieces: its tokens; then its target tokens, each answer's or the label's, if not among them.

    Args:
        module: the module that reads it.
        features: what the module made of it.
        label: its label, if it has one.
    """
    decode, task = module.tokenizer.decode, module.task
    tokens = features["input_ids"]
    targets = [token >= 0 for token in features.get("labels", [-100] * len(tokens))]
    for learned, run in groupby(zip(tokens, targets, strict=True), lambda pair: pair[1]):
        yield decode([token for token, _ in run]), learned
    if "target_ids" in features:
        answers = features["target_ids"]
        for answer in answers if answers and isinstance(answers[0], list) else [answers]:
            yield "\n", False
            yield decode(answer), True
    elif label is not None and not (label == -1 and task.labels):
        yield "\n", False
        yield task.labels[int(label)] if task.labels else f"{label:g}", True


def mark(text: str) -> str:
    """A text that stands out."""
    return f"{GREEN}{text}{PLAIN}" if on_terminal() else f"[[{text}]]"


def on_terminal() -> bool:
    """Whether the output is a terminal that may have colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
