"""Texts from data, as GPT-2 writes them in LoRA's and AdaMix's papers: E2E, WebNLG and DART."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from kronlit.config.user_error import UserError, did_you_mean
from kronlit.data import benchmark
from kronlit.data.row_file import shorten, utf8_text
from kronlit.data.tasks.generation import TASKS, GenerationTask
from kronlit.data.text import TextData
from kronlit.data.triples import Pair

FILES = {"train": ("train",), "validation": ("valid", "dev"), "test": ("test",)}


class E2E(TextData):
    """The E2E challenge, WebNLG 2017 or DART: a text from slots and values, or from triples.

    Training has a row for each text. Elsewhere all texts for the same data are the references of one row.

    Args:
        task: e2e, webnlg or dart.
        path: a folder as LoRA's release (microsoft/LoRA, `examples/NLG/data`) has it. Either train.txt, valid.txt and
            test.txt, in UTF-8, of lines `context||text`, where the context of E2E reads `name : The Vaults | Type :
            pub` and those of WebNLG and DART read `subject : relation : object | …`; or, for these two, the data sets'
            own train.json, dev.json and test.json, whose names may begin with more. By default, for E2E, the hub's
            tuetschek/e2e_nlg: its context reads `name[The Vaults], eatType[pub]` and its texts are not split into
            words, so its scores are not those of the papers.
        batch_size: rows per training step and device.
        eval_batch_size: rows per step and device in validation, test and prediction.
        predict_file: a .csv or .jsonl file with the column context to predict, in place of the test set.
        **kwargs: what `TextData` takes.
    """

    def __init__(
        self,
        task: str,
        path: str | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        *,
        predict_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        if task not in TASKS:
            raise UserError(
                f"`data.task`={task!r} is no such task; there are {', '.join(TASKS)}{did_you_mean(task, TASKS)}"
            )
        if path is None and TASKS[task].hub is None:
            raise UserError(
                f"`data.path` is missing: {task} is read from a folder with train.txt, valid.txt and test.txt, of "
                "lines `context||text`, or with its own train.json, dev.json and test.json."
            )
        super().__init__(
            TASKS[task].task,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            predict_file=predict_file,
            **kwargs,
        )
        self.path = path

    def load(self, split: str) -> Dataset:
        pairs = self.read(split)
        if split == "train":
            return Dataset.from_dict({"context": [c for c, _ in pairs], "answers": [[text] for _, text in pairs]})
        groups: dict[str, list[str]] = {}
        for context, text in pairs:
            groups.setdefault(context, []).append(text)
        return Dataset.from_dict({"context": list(groups), "answers": list(groups.values())})

    def read(self, split: str) -> list[Pair]:
        """The pairs of a split, in the file's order; `ValueError` if neither the folder nor the hub has them."""
        known = TASKS[self.task.name]
        if self.path is None:
            assert known.hub is not None
            rows = benchmark.read_split(known.hub.id, known.hub.config, split, None, known.hub.revision)
            return list(zip(*(rows[column] for column in known.hub_columns), strict=True))
        for name in FILES[split]:
            released = sorted(Path(self.path).glob(f"*{name}.json")) if known.released else []
            for file in (Path(self.path, f"{name}.txt"), *released):
                if file.is_file():
                    return read_pairs(file, known)
        raise UserError(
            f"`data.path`={self.path!r} has no {FILES[split][0]}.txt, which this run needs, of lines `context||text`."
        )


def read_pairs(file: Path, known: GenerationTask) -> list[Pair]:
    """The pairs in a file.

    Raises:
        ValueError: if it is empty, not UTF-8, or of another form.
    """
    with utf8_text(file, newline=None) as text:
        content = text.read()
    try:
        released = json.loads(content) if file.suffix == ".json" else None
    except (ValueError, RecursionError) as error:  # no JSON, a number of too many digits, or values in values
        raise UserError(f"{str(file)!r} cannot be read as UTF-8 {file.suffix[1:]}: {error}.") from error
    try:
        pairs = list(
            known.released(released) if known.released and file.suffix == ".json" else parse_lines(file, content)
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{str(file)!r} is not of the form in which {known.task.name} is released: {error!r}."
        ) from error
    if not pairs:
        raise UserError(f"{str(file)!r} has no rows.")
    for number, pair in enumerate(pairs, 1):
        check_pair(pair, f"{str(file)!r}, text {number}")
    return pairs


def check_pair(pair: Pair, where: str) -> None:
    """Raise `ValueError`, with `where` in it, unless a pair is two texts that can be written."""
    for part in pair:
        if not isinstance(part, str):
            raise UserError(f"{where}: {shorten(part)} is no text: put it in quotation marks.")
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: {part!r} has half a character: write both halves, or \\ufffd.") from error


def parse_lines(file: Path, content: str) -> Iterator[Pair]:
    """The pairs of lines `context||text`; lines of nothing are passed over."""
    for number, line in enumerate(content.split("\n"), 1):
        context, bars, text = (part.strip() for part in line.partition("||"))
        if line.strip() and not (context and text):
            fault = "nothing before or after its `||`" if bars else "no `||` between context and text"
            raise UserError(f"{str(file)!r}, line {number}: {fault}.")
        if line.strip():
            yield context, text
