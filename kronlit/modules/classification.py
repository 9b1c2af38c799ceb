"""Sequence classification and regression on an encoder."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.modules.batch import Batch
from kronlit.modules.padding import last_tokens, shift_right
from kronlit.modules.plm import load_config, load_model
from kronlit.modules.text import TextModule

NOT_INPUTS = ("row", "label", "group")


class SequenceClassification(TextModule):
    """A frozen encoder with a classification head, or a regression head if the label is a number."""

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        names = dict(enumerate(self.task.labels))
        labels: dict[str, Any] = {"num_labels": self.task.num_labels}
        if names:
            labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
        return load_model(AutoModelForSequenceClassification, self.plm, **labels)

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns = self.task.columns
        each = [dict(zip(columns, texts, strict=True)) for texts in zip(*(rows[c] for c in columns), strict=True)]
        texts = [[template.format(**row) for row in each] for template in self.task.classifier_segments()]
        tokenizer = self.tokenizer
        features = dict(tokenizer(*texts, truncation=True, max_length=self.max_length, return_attention_mask=True))
        # GPT-2's tokenizer makes no token of an empty text. It gets an end token, as a model has to read something.
        end = tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        one = {"input_ids": end, "attention_mask": 1}
        empty = [not ids for ids in features["input_ids"]]
        return {
            name: [[one.get(name, 0)] if none else row for none, row in zip(empty, column, strict=True)]
            for name, column in features.items()
        }

    @cached_property
    def padding_side(self) -> str:
        """The side of the padding: `left` or `right`."""
        # With padding on the right, T5Gemma's head would read one place beyond the end of a row.
        return "left" if load_config(self.plm).model_type.startswith("t5gemma") else super().padding_side

    def reads(self) -> tuple[str, ...]:
        return self.task.classifier_segments()

    def forward(self, batch: Batch) -> Tensor:
        """Logits, `(n, num_labels)`."""
        assert self.model is not None
        model, mask = self.model, batch["attention_mask"]
        inputs = {name: value for name, value in batch.items() if name not in NOT_INPUTS} | self.positions(mask)
        if model.config.is_encoder_decoder:
            return model(**inputs, **self._decoder_inputs(model.config, batch)).logits.float()
        if self.pads_by_choice and hasattr(model, "score"):
            # Transformers looks for the last token that is no pad token, but here a row may end with that token itself.
            states = model.base_model(**inputs).last_hidden_state
            return model.score(states[torch.arange(len(states), device=states.device), last_tokens(mask)]).float()
        return model(**inputs).logits.float()

    def _decoder_inputs(self, config: Any, batch: Batch) -> dict[str, Tensor]:
        """The decoder's input for padding on the left, where Transformers would put the start before the padding."""
        if self.padding_side == "right":
            return {}
        mask = batch["attention_mask"]
        start = getattr(config, "decoder_start_token_id", None)
        start = config.decoder.bos_token_id if start is None else start
        return {"decoder_input_ids": shift_right(batch["input_ids"], mask, start), "decoder_attention_mask": mask}

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        logits = self(batch)
        log_probabilities = None if self.task.is_regression else logits.log_softmax(-1)
        return self._losses(logits, batch["label"]), log_probabilities

    def _losses(self, logits: Tensor, label: Tensor) -> Tensor:
        if self.task.is_regression:
            return F.mse_loss(logits.squeeze(-1), label, reduction="none")
        return F.cross_entropy(logits, label, reduction="none")

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        prediction = logits.squeeze(-1) if self.task.is_regression else logits.argmax(-1)
        return prediction, self._losses(logits, batch["label"])

    def scores(self, batch: Batch) -> Tensor:
        logits = self(batch)
        return logits if self.task.is_regression else logits.softmax(-1)

    def unlabelled_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.task.is_regression:
            raise UserError("`ensemble`='emea' needs classes, and a regression has none: take 'uniform'.")
        logits = self(batch)[:, None]
        return logits, torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
