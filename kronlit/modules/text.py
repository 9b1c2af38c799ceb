"""What modules that read text share: the tokenizer, and rows of tokens as batches."""

import copy
import hashlib
from abc import abstractmethod
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.modules.base import Batch, FrozenPLM
from kronlit.modules.plm import load_tokenizer


class TextModule(FrozenPLM):
    """A frozen language model that reads text.

    To add a kind of task, subclass and write `encode` beside what `FrozenPLM` asks for.

    Args:
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained language model.
        method: what is added and trained.
        task: what the rows are; the command line takes it from `data`.
        lr: peak learning rate.
        weight_decay: AdamW's, on all that is trained but biases, layer norms and single numbers.
        warmup: steps of linear warm-up; below 1, a share of all steps.
        max_length: tokens of input that are kept.
        gradient_checkpointing: recompute activations in the backward pass; less memory, more time.
        consistency: weight of the divergence between two passes of each batch, with dropout and experts of their own;
            1 in AdaMix, and for other methods R-Drop. There is none, and no second pass, where a number is regressed.
        backbone_dtype: auto, the frozen weights of products in the 16-bit type that a mixed precision computes with:
            the same numbers in half the memory; or float32.
    """

    demonstrations: bool = False
    """Whether each row is given with demonstrations, training rows and their answers (`PromptClassification`)."""

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        warmup: float = 0.0,
        max_length: int = 128,
        gradient_checkpointing: bool = False,
        consistency: float = 0.0,
        backbone_dtype: Literal["auto", "float32"] = "auto",
    ) -> None:
        super().__init__(
            plm, method, task, lr, weight_decay, warmup, gradient_checkpointing, consistency, backbone_dtype
        )
        if max_length < 8:
            raise ValueError(f"`model.max_length`={max_length} must be at least 8 tokens.")
        self.max_length = max_length

    @abstractmethod
    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Columns of text (and `label`, if there is one) as columns of tokens, `input_ids` among them."""

    def sources(self, rows: dict[str, list[Any]]) -> list[str]:
        """Each row's columns as one text."""
        columns = self.task.columns
        texts = zip(*(rows[column] for column in columns), strict=True)
        return [self.task.source_text(dict(zip(columns, row, strict=True))) for row in texts]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the pre-trained model."""
        return load_tokenizer(self.plm)

    @cached_property
    def encoding_key(self) -> str:
        """Changes when `encode` gives other tokens for the same rows: the tokenised cache goes by it."""
        tokenizer, kind = self.tokenizer, type(self)
        # A copy without what earlier calls left in it: truncation is a state of the tokenizer.
        backend = copy.deepcopy(tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        content = hashlib.sha256(backend.to_str().encode()).hexdigest()
        reads = (tokenizer.model_input_names, tokenizer.truncation_side)
        return repr((f"{kind.__module__}.{kind.__qualname__}", content, reads, self.max_length))

    @cached_property
    def padding(self) -> dict[str, int] | None:
        """What stands where a row has no tokens."""
        return {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0, "target_ids": -100}

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """Rows of tokens as one batch, padded to the longest."""
        fill = self.padding or {}
        batch: Batch = {name: torch.tensor([row[name] for row in rows]) for name in ("row", "group") if name in rows[0]}
        if "answers" in rows[0]:
            batch["answers"] = [row["answers"] for row in rows]
        label_dtype = torch.float32 if self.task.is_regression else torch.long
        batch["label"] = torch.tensor([row["label"] for row in rows], dtype=label_dtype)
        for name in rows[0].keys() - {"row", "group", "answers", "label", "length"}:
            tokens = [torch.tensor(row[name]) for row in rows]
            batch[name] = nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=fill.get(name, 0))
        return batch
