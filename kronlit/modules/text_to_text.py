"""Text to text on a sequence-to-sequence model: Raffel et al., T5, 2020, arXiv:1910.10683, in Compacter's format."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.utils import ModelOutput

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.metrics.classification import squad_scores
from kronlit.modules.batch import Batch
from kronlit.modules.plm import load_model
from kronlit.modules.text import TextModule


class TextToText(TextModule):
    """A frozen T5 that reads `sentence1: … sentence2: …` and writes the class's integer, the number, or the answer.

    It is evaluated by greedy decoding, as in Mahabadi et al. (Compacter) and in KronA. A text that cannot be parsed is
    wrong. `predict` scores the text of every class instead, so it always gives a label.

    Args:
        task_prefix: begin the input with the task's name; the papers do so only if no adapter is trained.
        **kwargs: what `TextModule` takes.
    """

    def __init__(self, plm: str, method: Method, task: Task, *, task_prefix: bool = False, **kwargs: Any) -> None:
        super().__init__(plm, method, task, **kwargs)
        self.task_prefix = task_prefix

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        return load_model(AutoModelForSeq2SeqLM, self.plm)

    @cached_property
    def encoding_key(self) -> str:
        self.check_answers()
        return f"{super().encoding_key} {self.task_prefix}"

    @property
    def _prefix(self) -> str:
        return f"{self.task.name} " if self.task_prefix else ""

    def reads(self) -> tuple[str, ...]:
        return (self._prefix + self.task.source,)

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        prefix = self._prefix
        sources = [prefix + source for source in self.sources(rows)]
        features = dict(
            self.tokenizer(sources, truncation=True, max_length=self.max_length, return_attention_mask=True)
        )
        targets = []
        if self.task.free_text:
            targets = [next(iter(answers), "") for answers in rows.get("answers", [])]
        elif "label" in rows:
            targets = [self.task.target_text(label) for label in rows["label"]]
        if targets:
            features["target_ids"] = self.tokenizer(targets)["input_ids"]
        return features

    @cached_property
    def answer_length(self) -> int:
        """The most tokens to generate: one more than the longest label, so that longer answers are seen as wrong.

        For free text it is 128, as in the papers' code.
        """
        if self.task.free_text:
            return 128
        return 1 + max(map(len, self.tokenizer(self.answers)["input_ids"]))

    @property
    def answers(self) -> list[str]:
        """The text of each class; for a number, of fifty steps from the smallest to the largest."""
        low, high = self.task.span
        numbers = [low + (high - low) * i / 50 for i in range(51)]
        labels = numbers if self.task.is_regression else range(len(self.task.labels))
        return [self.task.target_text(label) for label in labels]

    def check_answers(self) -> None:
        """Raise `ValueError` if the tokenizer cannot write some label, which the model could then never learn."""
        if self.task.free_text:
            return
        read = self.tokenizer.batch_decode(self.tokenizer(self.answers)["input_ids"], skip_special_tokens=True)
        labels = self.task.labels or self.answers
        lost = {
            text if text == label else f"{text} ({label})": None
            for text, label, back in zip(self.answers, labels, read, strict=True)
            if self.task.parse(back) != self.task.parse(text)
        }
        if lost:
            some = ", ".join(list(lost)[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
            raise UserError(
                f"`model.plm`={self.plm!r} has no tokens for the answers {some}, which it reads as unknown: "
                "use a T5 whose vocabulary has them, or `SequenceClassification`."
            )

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        # Per token, as in the papers' code: if targets differ in length (STS-B), a mean over rows is another loss.
        targets = batch["target_ids"]
        there = targets >= 0
        log_probabilities = self._logits(batch, self._encode(batch), targets)[there].log_softmax(-1)
        return F.nll_loss(log_probabilities, targets[there], reduction="none"), log_probabilities

    def _losses(self, batch: Batch, encoded: ModelOutput) -> Tensor:
        """Mean cross-entropy over a row's target tokens, `(n,)`."""
        targets = batch["target_ids"]
        return self._token_losses(batch, encoded, targets).sum(-1) / (targets >= 0).sum(-1)

    def _encode(self, batch: Batch) -> ModelOutput:
        assert self.model is not None
        return self.model.get_encoder()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])

    def _token_losses(self, batch: Batch, encoded: ModelOutput, target_ids: Tensor) -> Tensor:
        """Cross-entropy of each target token, `(n, tokens)`; 0 for padding."""
        logits = self._logits(batch, encoded, target_ids)
        return F.cross_entropy(logits.mT, target_ids, ignore_index=-100, reduction="none")

    def _logits(self, batch: Batch, encoded: ModelOutput, target_ids: Tensor) -> Tensor:
        """The logits of each target token, `(n, tokens, vocabulary)`."""
        assert self.model is not None
        logits: Tensor = self.model(
            encoder_outputs=encoded,
            attention_mask=batch["attention_mask"],
            decoder_input_ids=self.model.prepare_decoder_input_ids_from_labels(target_ids),
            use_cache=False,
        ).logits
        return logits.float()

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        encoded = self._encode(batch)
        texts = self._generate(batch, encoded)
        answers: list[Any]
        if self.task.free_text:
            answers = [squad_scores(text, right) for text, right in zip(texts, batch["answers"], strict=True)]
        else:
            answers = [self.task.parse(text) for text in texts]
        prediction = torch.tensor(answers, dtype=torch.float64, device=batch["row"].device)
        return prediction, self._losses(batch, encoded)

    def _generate(self, batch: Batch, encoded: ModelOutput) -> list[str]:
        assert self.model is not None
        tokens = self.model.generate(
            encoder_outputs=encoded,
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.answer_length,
            do_sample=False,
            num_beams=1,
        )
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def texts(self, batch: Batch) -> list[str]:
        return self._generate(batch, self._encode(batch))

    def scores(self, batch: Batch) -> Tensor:
        """Each class's share of the probability of all class texts; for regression the generated number."""
        encoded = self._encode(batch)
        if self.task.is_regression:
            answers = [[self.task.parse(text)] for text in self._generate(batch, encoded)]
            return torch.tensor(answers, device=batch["row"].device)
        log_likelihoods = []
        for label in range(self.task.num_labels):
            target = self.tokenizer(self.task.target_text(label), return_tensors="pt")["input_ids"]
            target = target.to(batch["row"].device).expand(len(batch["row"]), -1)
            log_likelihoods.append(-self._token_losses(batch, encoded, target).sum(-1))
        return torch.stack(log_likelihoods, -1).softmax(-1)
