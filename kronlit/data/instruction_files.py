"""Your own rows to fine-tune a language model on: instructions, conversations, or plain text."""

from pathlib import Path
from typing import Any, Literal, cast

from datasets import Dataset
from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.user_error import UserError
from kronlit.data.base import Features
from kronlit.data.held_out import HeldOutRows
from kronlit.data.instruction_rows import COLUMNS, NEEDED, Form, find_form, read_columns
from kronlit.data.row_file import RowFile
from kronlit.data.row_source import read_source
from kronlit.data.rows import check_rows
from kronlit.data.tasks import Task

Metric = Literal["exact_match", "rouge_l", "bleu", "nist", "cider", "ter"]


class InstructionFiles(HeldOutRows):
    """Your own rows to fine-tune a language model on, from CSV, JSONL or parquet files, a folder, or the hub.

    A row has the columns `prompt` and `completion`; or `messages`, a list of objects with `role` and `content`, which
    the tokenizer's chat template makes a text of, and whose assistant's turns alone are learned; or `text` alone, all
    of which is learned. Names and forms are those of TRL.

    Args:
        train: what to train on: a file; a folder, whose files named train, validation and test are these splits' (if
            none is so named, all its files are read); or a data set of the hub, as `org/name`, with `@revision` or
            `:split` after it.
        validation: such a place of the rows to validate on, or the share of the training rows to hold out for it.
        test: such a place or share of the rows to test on; by default there are none.
        columns: names that columns have here, by the name above: `{prompt: question, completion: answer}`.
        metrics: scores of generated texts, where `model.generate` asks for these. The first selects the checkpoint if
            `model.validate_by` is generation.
        split_seed: seed of the held-out rows.
        batch_size: rows per training step and device.
        eval_batch_size: rows per step and device in validation, test and prediction.
        predict_file: a place with the column prompt, messages or text to predict, in place of the test rows.
        **kwargs: what `TextData` takes.
    """

    def __init__(
        self,
        train: str,
        validation: float | str = 0.1,
        test: float | str | None = None,
        columns: dict[str, str] | None = None,
        metrics: tuple[Metric, ...] = ("exact_match", "rouge_l", "bleu"),
        split_seed: int = 42,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        *,
        predict_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.files = {"train": train, "validation": validation, "test": test}
        self.columns = columns or {}
        self.split_seed = split_seed
        self._sources: dict[tuple[str, str], list[RowFile]] = {}
        self._tables: dict[tuple[str, str], Dataset] = {}
        self._selected = {}
        self._said: set[str] = set()
        known = [column for form in COLUMNS.values() for column in form]
        if unknown := [column for column in self.columns if column not in known]:
            raise UserError(f"`data.columns` names {unknown[0]!r}; there are {', '.join(known)}.")
        if not metrics:
            raise UserError("`data.metrics`=[] must name one metric or more.")
        self.check_shares()
        gone = predict_file is not None and Path(train).suffix != "" and not Path(train).is_file()
        first = self._files(str(predict_file) if gone else train, "train")[0]
        form = find_form(first, self.columns, answered=not gone)
        task = Task(
            Path(train).stem, (form,), (), metrics if form != "text" else (), f"{{{form}}}", free_text=True, form=form
        )
        super().__init__(
            task, batch_size=batch_size, eval_batch_size=eval_batch_size, predict_file=predict_file, **kwargs
        )

    def _files(self, source: str, split: str, option: str = "") -> list[RowFile]:
        if (source, split) not in self._sources:
            self._sources[source, split] = read_source(source, split, option or f"data.{split}", NEEDED)
        return self._sources[source, split]

    def read(self, source: str, split: str) -> Dataset:
        """The rows of a source, which is read once."""
        if (source, split) not in self._tables:
            self._tables[source, split] = self._table(source, split, answered=True)
        return self._tables[source, split]

    def _table(self, source: str, split: str, answered: bool) -> Dataset:
        files = self._files(source, split, "data.predict_file" if split == "predict" else "")
        parts = [read_columns(file, cast(Form, self.task.form), self.columns, answered) for file in files]
        return Dataset.from_dict({name: [cell for part in parts for cell in part[name]] for name in parts[0]})

    def check(self, rows: Dataset, where: str) -> None:
        if self.task.form != "messages":  # which `read_columns` has checked
            check_rows(rows, self.task, where)
        elif not len(rows):
            raise UserError(f"{where} has no rows.")

    def rows(self, split: str) -> Dataset:
        if split != "predict":
            return super().rows(split)
        assert self.predict_file is not None
        return self._table(self.predict_file, "predict", answered=False)

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        if split != "predict":
            return super().row_identity(split)
        assert self.predict_file is not None
        files = self._files(self.predict_file, "predict")
        names = [name for name in files[0].columns if all(name in file.columns for file in files)]
        return {name: [cell for file in files for cell in file.columns[name]] for name in names}

    def encode(self, split: str) -> Features:
        """As in `TextData`, without the rows that `model.too_long` drops; how many it drops or cuts is printed."""
        features = super().encode(split)
        if "cut" not in features.column_names:
            return features
        cut = features["cut"][:]
        features = features.remove_columns("cut")
        if self._command == "predict" or not any(cut):
            return features
        kept = [row for row, state in enumerate(cut) if state != "dropped"]
        where = f"{self.task.name}/{split}"
        if not kept:
            raise UserError(
                f"{where}: all {len(cut)} rows are too long for `model.max_length`, which leaves no target token: "
                "raise it."
            )
        if split not in self._said:
            self._said.add(split)
            counts = " and ".join(f"{n} {state}" for state in ("truncated", "dropped") if (n := cut.count(state)))
            rank_zero_only(print)(f"{where}: of {len(cut)} rows, {counts}, as they exceed `model.max_length`.")
        return features if len(kept) == len(cut) else features.select(kept)
