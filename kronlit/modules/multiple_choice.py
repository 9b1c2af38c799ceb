"""Multiple choice: Radford et al., GPT, 2018, figure 1; Devlin et al., BERT, 2019, arXiv:1810.04805, section 4.4."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForMultipleChoice, PreTrainedModel

from kronlit.modules.batch import Batch
from kronlit.modules.padding import pad_rows
from kronlit.modules.plm import load_model
from kronlit.modules.text import TextModule

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class MultipleChoice(TextModule):
    """A frozen encoder with a head that scores each choice, read after the question, by one number.

    The softmax over a row's choices is the probability of each.
    """

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        return load_model(AutoModelForMultipleChoice, self.plm)

    @property
    def padding(self) -> dict[str, int] | None:
        return None  # a batch has a row for each choice

    def reads(self) -> tuple[str, ...]:
        return ()

    def longest(self, data: Any, split: str) -> int:
        return max((len(choice) for row in data.encode_once(split)["input_ids"] for choice in row), default=0)

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Turn each question into as many texts as it has choices."""
        each = [
            self.tokenizer(
                [question] * len(choices),
                choices,
                truncation=True,
                max_length=self.max_length,
                return_attention_mask=True,
            )
            for question, choices in zip(rows["question"], rows["choices"], strict=True)
        ]
        features = {name: [encoded[name] for encoded in each] for name in INPUTS if name in each[0]}
        return features | {"length": [sum(map(len, choices)) for choices in features["input_ids"]]}

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """All choices of the rows, one below the other. `counts`, `(n,)`, is how many each row has."""
        batch: Batch = {name: torch.tensor([row[name] for row in rows]) for name in ("row", "label")}
        batch["counts"] = torch.tensor([len(row["input_ids"]) for row in rows])
        for name in INPUTS:
            if name in rows[0]:
                batch[name] = pad_rows([c for row in rows for c in row[name]], self.fill[name], self.padding_side)
        return batch

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the choices, `(n, choices)`; of choices that a row does not have, minus infinity."""
        assert self.model is not None
        inputs = {name: batch[name] for name in INPUTS if name in batch} | self.positions(batch["attention_mask"])
        logits = self.model(**{name: value[:, None] for name, value in inputs.items()}).logits.float().flatten()
        counts = batch["counts"].tolist()
        infinite = float("-inf")
        return nn.utils.rnn.pad_sequence(list(logits.split(counts)), batch_first=True, padding_value=infinite)

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        log_probabilities = self(batch).log_softmax(-1)
        losses = F.nll_loss(log_probabilities, batch["label"], reduction="none")
        return losses, log_probabilities.clamp(min=-1e4)  # finite, as a divergence takes differences

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        return logits.argmax(-1), F.cross_entropy(logits, batch["label"], reduction="none")

    def scores(self, batch: Batch) -> Tensor:
        probabilities = self(batch).softmax(-1)
        return F.pad(probabilities, (0, self.task.num_labels - probabilities.shape[-1]))
