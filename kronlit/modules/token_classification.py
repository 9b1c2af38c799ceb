"""Token classification, such as named entities: Devlin et al., BERT, 2019, arXiv:1810.04805, section 5.3."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import AutoModelForTokenClassification, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.metrics.spans import TagMetrics
from kronlit.modules.batch import Batch
from kronlit.modules.plm import load_model
from kronlit.modules.text import TextModule

NOT_INPUTS = ("row", "label", "tags", "count", "word_ids")
MARK = "▁"
"""What SentencePiece writes where a word begins; alone, it is no part of the word."""


class TokenClassification(TextModule):
    """A frozen encoder or decoder with a head that gives each token of a row a tag.

    The tokens of a row are joined by spaces and read as text. The first sub-word of a token is what its tag is learned
    and predicted at; further sub-words have none. Tokens beyond `max_length` are not read: they have no tag, and count
    as wrong.
    """

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        names = dict(enumerate(self.task.labels))
        numbers = {name: number for number, name in names.items()}
        return load_model(AutoModelForTokenClassification, self.plm, id2label=names, label2id=numbers)

    def new_metrics(self) -> Metric:
        return TagMetrics(self.task)

    def reads(self) -> tuple[str, ...]:
        return ()

    @property
    def padding_side(self) -> str:
        """Right, where no token that stands before the padding can see it."""
        return "right"

    @cached_property
    def fill(self) -> dict[str, int]:
        return super().fill | {"word_ids": -1}

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Turn tokens into sub-words; `word_ids` has the number of the token where its first sub-word is, else -1."""
        tokenizer = self.tokenizer
        if not tokenizer.is_fast:
            raise UserError(
                f"`model.plm`={self.plm!r} has a tokenizer in Python alone, which does not say where its tokens come "
                "from: use a model whose tokenizer has a tokenizer.json."
            )
        texts = [" ".join(tokens) for tokens in rows["tokens"]]
        encoded = tokenizer(
            texts, truncation=True, max_length=self.max_length, return_attention_mask=True, return_offsets_mapping=True
        )
        features = dict(encoded)
        offsets = features.pop("offset_mapping")
        pieces = [encoded.tokens(row) for row in range(len(texts))]
        each = zip(rows["tokens"], texts, pieces, offsets, strict=True)
        features["word_ids"] = [first_sub_words(*row) for row in each]
        read = [sum(number >= 0 for number in row) for row in features["word_ids"]]
        features["unread"] = [len(tokens) - count for tokens, count in zip(rows["tokens"], read, strict=True)]
        features["count"] = [len(tokens) for tokens in rows["tokens"]]
        return features

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """As in `TextModule`, with `label` for each sub-word, -100 where there is none, and `tags` for each token."""
        own = ("unread", "count", "label")
        batch = super().collate([{k: v for k, v in row.items() if k not in own} | {"label": -1} for row in rows])
        batch["count"] = [row["count"] for row in rows]
        if isinstance(rows[0]["label"], list):
            batch["tags"] = [row["label"] for row in rows]
            known = [torch.tensor([*row["label"], -100]) for row in rows]  # the last one is for -1
            batch["label"] = torch.stack(
                [tags[numbers] for tags, numbers in zip(known, batch["word_ids"], strict=True)]
            )
        return batch

    def forward(self, batch: Batch) -> Tensor:
        """Logits, `(n, sub-words, tags)`."""
        assert self.model is not None
        inputs = {name: value for name, value in batch.items() if name not in NOT_INPUTS}
        return self.model(**inputs).logits.float()

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        there = batch["label"] >= 0
        log_probabilities = self(batch)[there].log_softmax(-1)
        return F.nll_loss(log_probabilities, batch["label"][there], reduction="none"), log_probabilities

    def _score(self, metrics: nn.Module, batch: Batch) -> None:
        assert isinstance(metrics, TagMetrics)
        logits, label = self(batch), batch["label"]
        losses = F.cross_entropy(logits.mT, label, ignore_index=-100, reduction="none").double().sum(-1)
        metrics.update(batch["row"], losses, (label >= 0).sum(-1), self._tags(batch, logits), batch["tags"])

    def _tags(self, batch: Batch, logits: Tensor) -> list[list[int]]:
        """The number of each token's tag by row, -1 for a token that was not read."""
        rows = []
        for count, numbers, best in zip(batch["count"], batch["word_ids"], logits.argmax(-1), strict=True):
            tags = torch.full((count,), -1, device=best.device)
            tags[numbers[numbers >= 0]] = best[numbers >= 0]
            rows.append(tags.tolist())
        return rows

    def unlabelled_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self(batch), batch["word_ids"] >= 0

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Row numbers `(n,)` and, by row, the `columns` to write: the tags, `None` for a token that was not read."""
        labels = (*self.task.labels, None)  # the last one is for -1
        tags = [[labels[number] for number in row] for row in self._tags(batch, self(batch))]
        return {"row": batch["row"], "columns": [{"tags": row} for row in tags]}


def first_sub_words(tokens: list[str], text: str, pieces: list[str], offsets: list[tuple[int, int]]) -> list[int]:
    """For each sub-word the number of the token that begins with it, or -1.

    Args:
        tokens: the tokens.
        text: the tokens, joined by spaces.
        pieces: the sub-words.
        offsets: where each sub-word begins and ends in the text; special tokens are empty.
    """
    owner = [number for number, token in enumerate(tokens) for _ in range(len(token) + 1)]  # and the space after it
    found, seen = [], -1
    for piece, (first, last) in zip(pieces, offsets, strict=True):
        while first < last and text[first].isspace():  # a space may be part of the sub-word after it
            first += 1
        number = owner[first] if first < last and piece != MARK else -1
        found.append(number if number > seen else -1)
        seen = max(seen, number)
    return found
