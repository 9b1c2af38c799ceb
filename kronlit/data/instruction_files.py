"""Your own rows to fine-tune a language model on: instructions, conversations, or plain text."""

from pathlib import Path
from typing import Any, Literal, cast

from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.user_error import UserError
from kronlit.data.base import Features
from kronlit.data.batches import LengthGroupedBatches
from kronlit.data.instruction_rows import COLUMNS, NEEDED, Form, find_form, read_columns
from kronlit.data.own_files import OwnFiles
from kronlit.data.packing import PackedBatches, PackedRows
from kronlit.data.row_file import RowFile
from kronlit.data.tasks import Task

Metric = Literal["exact_match", "rouge_l", "bleu", "nist", "cider", "ter"]


class InstructionFiles(OwnFiles):
    """Your own rows to fine-tune a language model on, from CSV, JSONL or parquet files, a folder, or the hub.

    A row has the columns `prompt` and `completion`; or `messages`, a list of objects with `role` and `content`, which
    the tokenizer's chat template makes a text of, and whose assistant's turns alone are learned; or `text` alone, all
    of which is learned. Names and forms are those of TRL.

    Args:
        train: what to train on: a .csv, .jsonl or .parquet file; a folder, whose files named train, validation and test
            are these splits' (if none is so named, all its files are read); or a data set of the hub, as `org/name`,
            with `/configuration`, `@revision` and `:split` after it where these are meant.
        columns: names that columns have here, by the name above: `{prompt: question, completion: answer}`.
        metrics: scores of generated texts, where `model.generate` asks for these. The first selects the checkpoint if
            `model.validate_by` is generation.
        batch_size: rows per training step and device.
        eval_batch_size: rows per step and device in validation, test and prediction.
        predict_file: a place with the column prompt, messages or text to predict, in place of the test rows.
        packing: join training rows to sequences of up to `model.max_length` tokens, so that there is little padding.
            Rows do not see one another, and losses and gradients are those of the rows by themselves. `batch_size`
            then counts such sequences.
        **kwargs: what `OwnFiles` takes.
    """

    needed = NEEDED

    def __init__(
        self,
        train: str,
        columns: dict[str, str] | None = None,
        metrics: tuple[Metric, ...] = ("exact_match", "rouge_l", "bleu"),
        batch_size: int = 8,
        eval_batch_size: int = 16,
        *,
        predict_file: str | None = None,
        packing: bool = False,
        **kwargs: Any,
    ) -> None:
        self.columns = columns or {}
        self.packing = packing
        self._said: set[str] = set()
        known = [column for form in COLUMNS.values() for column in form]
        if unknown := [column for column in self.columns if column not in known]:
            raise UserError(f"`data.columns` names {unknown[0]!r}; there are {', '.join(known)}.")
        if not metrics:
            raise UserError("`data.metrics`=[] must name one metric or more.")
        gone = predict_file is not None and Path(train).suffix != "" and not Path(train).is_file()
        files = self.read_files(str(predict_file), "predict") if gone else self.read_files(train, "train")
        form = find_form(files[0], self.columns, answered=not gone)
        scores = metrics if form != "text" else ()
        task = Task(Path(train).stem, (form,), (), scores, f"{{{form}}}", free_text=True, form=form, jobs=("CausalLM",))
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        super().__init__(task, train, predict_file=predict_file, **sizes, **kwargs)
        if packing and self.max_tokens is not None:
            raise UserError(
                f"`data.packing`=True has `data.batch_size` sequences of `model.max_length` tokens in a step: leave "
                f"out `data.max_tokens`={self.max_tokens}."
            )

    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        return read_columns(file, cast(Form, self.task.form), self.columns, labelled)

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

    def loader_dataset(self, split: str) -> Features:
        rows = super().loader_dataset(split)
        return PackedRows(rows) if self.packing and split == "train" else rows

    def train_batches(self, rows: Features, seed: int) -> LengthGroupedBatches:
        if not self.packing:
            return super().train_batches(rows, seed)
        assert self.trainer is not None
        processes = (self.trainer.global_rank, self.trainer.world_size)
        capacity = cast(Any, self._module).max_length
        return PackedBatches(list(rows["length"]), capacity, self.batch_size, seed, *processes)
