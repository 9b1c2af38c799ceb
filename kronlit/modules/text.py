"""What modules that read text share: the tokenizer, and batches of tokens."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.modules.base import FrozenPLM
from kronlit.modules.batch import Batch
from kronlit.modules.padding import (
    choose_pad_token,
    counts_from_zero,
    num_positions,
    pad_rows,
    padding_side,
    positions_from_zero,
    tell_pad_token,
)
from kronlit.modules.plm import load_tokenizer
from kronlit.modules.tokenizer import tokenizer_key


class TextModule(FrozenPLM):
    """A frozen language model that reads text.

    To add a kind of task, subclass it and write `encode` besides what `FrozenPLM` asks for.

    Args:
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained language model.
        max_length: the most tokens of input; longer texts are cut.
        **kwargs: what `FrozenPLM` takes.
    """

    pads_by_choice: bool = False
    """Whether the tokenizer had no pad token and uses another token for it, which rows may also contain."""

    demonstrations: bool = False
    """Whether each row comes with demonstrations, which are training rows and answers (`PromptClassification`)."""

    def __init__(self, plm: str, method: Method, task: Task, *, max_length: int = 128, **kwargs: Any) -> None:
        super().__init__(plm, method, task, **kwargs)
        if max_length < 8:
            raise UserError(f"`model.max_length`={max_length} must be at least 8 tokens.")
        self.max_length = max_length

    @abstractmethod
    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Turn columns of text (and `label`, if there is one) into columns of tokens, such as `input_ids`."""

    def sources(self, rows: dict[str, list[Any]]) -> list[str]:
        """Each row's columns as one text."""
        columns = self.task.columns
        texts = zip(*(rows[column] for column in columns), strict=True)
        return [self.task.source_text(dict(zip(columns, row, strict=True))) for row in texts]

    def reads(self) -> tuple[str, ...]:
        return (self.task.source,)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the pre-trained model. If it has no pad token, one is chosen."""
        tokenizer = load_tokenizer(self.plm)
        self.pads_by_choice = choose_pad_token(tokenizer)
        return tokenizer

    def configure_model(self) -> None:
        super().configure_model()
        assert self.model is not None
        if self.tokenizer.pad_token_id is not None:
            tell_pad_token(self.model, self.tokenizer.pad_token_id)
        data: Any = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        if (
            hasattr(data, "splits")
            and hasattr(data, "encode_once")
            and (positions := num_positions(self.model)) is not None
        ):
            longest = max((self.longest(data, split) for split in data.splits()), default=0)
            if longest > positions:
                raise UserError(
                    f"`model.max_length`={self.max_length} lets rows be {longest} tokens long, and `model.plm`="
                    f"{self.plm!r} has {positions} positions: set `model.max_length` to {positions}, or less."
                )

    def longest(self, data: Any, split: str) -> int:
        """The most tokens of a row in a split of `data`, a `TaskData`."""
        return max(data.encode_once(split)["length"], default=0)

    @cached_property
    def encoding_key(self) -> str:
        """Identifies `encode` for the cache of tokens: it changes if the same rows would give other tokens."""
        tokenizer, kind = self.tokenizer, type(self)
        reads = (tokenizer.model_input_names, tokenizer.truncation_side)
        return repr((f"{kind.__module__}.{kind.__qualname__}", tokenizer_key(tokenizer), reads, self.max_length))

    @cached_property
    def padding_side(self) -> str:
        """The side of the padding: `left` or `right`."""
        return padding_side(self.tokenizer)

    @cached_property
    def fill(self) -> dict[str, int]:
        """The padding value of each column of tokens."""
        tokenizer = self.tokenizer
        types = {"token_type_ids": tokenizer.pad_token_type_id, "target_ids": -100}
        return {"input_ids": tokenizer.pad_token_id, "attention_mask": 0} | types

    @property
    def padding(self) -> dict[str, int] | None:
        return self.fill if self.padding_side == "right" else None

    def positions(self, attention_mask: Tensor) -> dict[str, Tensor]:
        """`position_ids` for a model that would otherwise count padding on the left."""
        if self.padding_side == "right" or not self._counts_from_zero:
            return {}
        return {"position_ids": positions_from_zero(attention_mask)}

    @cached_property
    def _counts_from_zero(self) -> bool:
        assert self.model is not None
        return counts_from_zero(self.model)

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """Rows of tokens as one batch, padded to the longest: targets on the right, all else on `padding_side`."""
        batch: Batch = {name: torch.tensor([row[name] for row in rows]) for name in ("row", "group") if name in rows[0]}
        if "answers" in rows[0]:
            batch["answers"] = [row["answers"] for row in rows]
        label_dtype = torch.float32 if self.task.is_regression else torch.long
        batch["label"] = torch.tensor([row["label"] for row in rows], dtype=label_dtype)
        for name in rows[0].keys() - {"row", "group", "answers", "label", "length"}:
            side = "right" if name == "target_ids" else self.padding_side
            batch[name] = pad_rows([row[name] for row in rows], self.fill.get(name, 0), side)
        return batch
