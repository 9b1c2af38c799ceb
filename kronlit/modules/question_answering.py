"""Answers that are parts of a context: Devlin et al., BERT, 2019, arXiv:1810.04805, sections 4.2 and 4.3."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.metrics.classification import squad_scores
from kronlit.modules.batch import Batch
from kronlit.modules.padding import pad_rows
from kronlit.modules.plm import load_model
from kronlit.modules.text import TextModule

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NOWHERE = -1e9
"""Added to the logit of a token at which no answer can begin or end."""


class QuestionAnswering(TextModule):
    """A frozen encoder with a head that says at which tokens of a context the answer begins and ends.

    A context that is too long for `max_length` is read in windows that overlap. In a window without the answer, the
    target is the first token, as BERT's code has it. The answer is the span of highest score over all windows.

    Args:
        max_length: the most tokens of a window, which is the question and a part of the context.
        stride: the number of tokens by which windows overlap.
        max_answer_length: the most tokens of an answer.
        no_answer: whether a context may have no answer, as in SQuAD 2.0: the answer is then an empty text if the first
            token scores higher than every span.
        **kwargs: what `TextModule` takes.
    """

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        *,
        max_length: int = 384,
        stride: int = 128,
        max_answer_length: int = 30,
        no_answer: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(plm, method, task, max_length=max_length, **kwargs)
        if not 0 <= stride < max_length:
            raise UserError(f"`model.stride`={stride} must be at least 0 and below `model.max_length`={max_length}.")
        if max_answer_length < 1:
            raise UserError(f"`model.max_answer_length`={max_answer_length} must be at least 1.")
        self.stride = stride
        self.max_answer_length = max_answer_length
        self.no_answer = no_answer

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        return load_model(AutoModelForQuestionAnswering, self.plm)

    @cached_property
    def encoding_key(self) -> str:
        return f"{super().encoding_key} {self.stride}"

    @property
    def padding_side(self) -> str:
        """Right, so that the first token of a window is the first of its row."""
        return "right"

    @property
    def padding(self) -> dict[str, int] | None:
        return None  # rows have several windows

    def longest(self, data: Any, split: str) -> int:
        return max((len(window) for row in data.encode_once(split)["input_ids"] for window in row), default=0)

    # --- windows ---

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Turn questions and contexts into windows, of which each row has one or more.

        `first` and `last` are, for each token of a window, where it begins and ends in the context; -1 outside of it.
        `target` is where the answer begins and ends, in tokens of the window.
        """
        if not self.tokenizer.is_fast:
            raise UserError(
                f"`model.plm`={self.plm!r} has a tokenizer in Python alone, which does not say where its tokens come "
                "from: use a model whose tokenizer has a tokenizer.json."
            )
        each = [self._windows(*row) for row in zip(rows["question"], rows["context"], strict=True)]
        features: dict[str, list[Any]] = {name: [row[name] for row in each] for name in each[0]}
        features["length"] = [sum(map(len, row["input_ids"])) for row in each]
        features["context"] = rows["context"]
        if "starts" in rows:
            answers = zip(each, rows["answers"], rows["starts"], strict=True)
            features["target"] = [targets(row["first"], row["last"], texts, starts) for row, texts, starts in answers]
        return features

    def _windows(self, question: str, context: str) -> dict[str, list[list[int]]]:
        """The windows of a row."""
        room = self.max_length - len(self.tokenizer([question], [""])["input_ids"][0])
        if room <= self.stride:
            raise UserError(
                f"`model.max_length`={self.max_length} leaves {max(room, 0)} tokens for the context of the question "
                f"{question[:60]!r}, where windows overlap by `model.stride`={self.stride}: raise the one, or lower "
                "the other."
            )
        encoded = self.tokenizer(
            [question],
            [context],
            truncation="only_second",
            max_length=self.max_length,
            stride=self.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=True,
        )
        features = {name: encoded[name] for name in INPUTS if name in encoded}
        for side, name in enumerate(("first", "last")):
            features[name] = [
                [
                    place[side] if part == 1 else -1
                    for place, part in zip(places, encoded.sequence_ids(number), strict=True)
                ]
                for number, places in enumerate(encoded["offset_mapping"])
            ]
        return features

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """All windows of the rows, padded on the right. `owner`, `(windows,)`, is the row of each."""
        batch: Batch = {"row": torch.tensor([row["row"] for row in rows]), "label": torch.full((len(rows),), -1)}
        batch["context"] = [row["context"] for row in rows]
        if "answers" in rows[0]:
            batch["answers"] = [row["answers"] for row in rows]
        batch["owner"] = torch.tensor([number for number, row in enumerate(rows) for _ in row["input_ids"]])
        for name in (*INPUTS, "first", "last"):
            if name in rows[0]:
                fill = -1 if name in ("first", "last") else self.fill[name]
                batch[name] = pad_rows([window for row in rows for window in row[name]], fill, self.padding_side)
        if "target" in rows[0]:
            batch["target"] = torch.tensor([target for row in rows for target in row["target"]])
        return batch

    # --- losses and answers ---

    def forward(self, batch: Batch) -> Tensor:
        """Logits of where the answer begins and ends, `(windows, 2, tokens)`."""
        assert self.model is not None
        out = self.model(**{name: batch[name] for name in INPUTS if name in batch})
        logits = torch.stack([out.start_logits, out.end_logits], 1).float()
        return logits + NOWHERE * (batch["attention_mask"][:, None] == 0)

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        log_probabilities = self(batch).log_softmax(-1).flatten(0, 1)  # of a window's begin, and then of its end
        return F.nll_loss(log_probabilities, batch["target"].flatten(), reduction="none"), log_probabilities

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        losses = F.cross_entropy(logits.flatten(0, 1), batch["target"].flatten(), reduction="none").unflatten(
            0, (-1, 2)
        )
        zeros = torch.zeros(len(batch["row"]), device=logits.device)
        windows = zeros.index_add(0, batch["owner"], torch.ones_like(losses[:, 0]))
        marks = [squad_scores(*both) for both in zip(self._answers(batch, logits), batch["answers"], strict=True)]
        prediction = torch.tensor(marks, dtype=torch.float64, device=logits.device)
        return prediction, zeros.index_add(0, batch["owner"], losses.mean(-1)) / windows

    def texts(self, batch: Batch) -> list[str]:
        return self._answers(batch, self(batch))

    def _answers(self, batch: Batch, logits: Tensor) -> list[str]:
        """The text of the best span of each row."""
        begins, ends = (logits + NOWHERE * (batch["first"][:, None] < 0)).unbind(1)
        best = [(float("-inf"), "")] * len(batch["row"])
        none = [float("inf")] * len(batch["row"])
        for number, owner in enumerate(batch["owner"].tolist()):
            spans = begins[number][:, None] + ends[number][None]  # (tokens, tokens)
            spans = spans.masked_fill(
                ~torch.ones_like(spans, dtype=torch.bool).triu().tril(self.max_answer_length - 1), -4e9
            )
            score, place = spans.flatten().max(0)
            begin, end = divmod(int(place), len(spans))
            text = batch["context"][owner][int(batch["first"][number, begin]) : int(batch["last"][number, end])]
            best[owner] = max(best[owner], (score.item(), text), key=lambda one: one[0])
            none[owner] = min(none[owner], logits[number, :, 0].sum().item())
        if not self.no_answer:
            return [text.strip() for _, text in best]
        return ["" if score < null else text.strip() for (score, text), null in zip(best, none, strict=True)]


def targets(first: list[list[int]], last: list[list[int]], texts: list[str], starts: list[int]) -> list[list[int]]:
    """The tokens at which the first answer begins and ends in each window; 0 and 0 in a window that has not all of it.

    Args:
        first: where each token of each window begins in the context, -1 outside of it.
        last: where it ends.
        texts: the answers.
        starts: where these begin in the context; none if there is no answer.
    """
    if not starts:
        return [[0, 0] for _ in first]
    begin, end = starts[0], starts[0] + len(texts[0])
    found = []
    for begins, ends in zip(first, last, strict=True):
        inside = [n for n, (a, b) in enumerate(zip(begins, ends, strict=True)) if a >= 0 and a < end and b > begin]
        context = [n for n, a in enumerate(begins) if a >= 0 and ends[n] > a]
        whole = inside and begins[context[0]] <= begin and ends[context[-1]] >= end
        found.append([inside[0], inside[-1]] if whole else [0, 0])
    return found
