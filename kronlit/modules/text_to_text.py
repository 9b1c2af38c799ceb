"""Text to text on a sequence-to-sequence model: Raffel et al., T5, 2020, arXiv:1910.10683, in Compacter's format."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.metrics import generation
from kronlit.metrics.classification import squad_scores
from kronlit.metrics.generation import GenerationMetrics
from kronlit.modules.batch import Batch
from kronlit.modules.plm import load_config, load_model
from kronlit.modules.target import opening, set_languages, target_tokens
from kronlit.modules.text import TextModule


class TextToText(TextModule):
    """A frozen encoder-decoder, such as T5 or BART, that writes a class's integer, a number, or a text of its own.

    It reads `sentence1: … sentence2: …`, or a row's own `source`. It is evaluated by greedy decoding, as in Mahabadi et
    al. (Compacter) and in KronA. A text that cannot be parsed is wrong. `predict` scores the text of every class
    instead, so it always gives a label.

    Args:
        task_prefix: begin the input with the task's name; the papers do so only if no adapter is trained.
        max_new_tokens: the most tokens of a text, to learn and to write. By default a text of its own has 128, and a
            label one more than the longest of them.
        num_beams: number of beams of the search; 1 is greedy.
        languages: what is read and what is written, for a model of many languages: `[en_XX, ro_RO]` for mBART.
        **kwargs: what `TextModule` takes.
    """

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        *,
        task_prefix: bool = False,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        languages: tuple[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(plm, method, task, **kwargs)
        for name, number in (("max_new_tokens", max_new_tokens), ("num_beams", num_beams)):
            if number is not None and number < 1:
                raise UserError(f"`model.{name}`={number} must be at least 1.")
        self.task_prefix = task_prefix
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self.languages = languages

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        if not (config := load_config(self.plm)).is_encoder_decoder:
            raise UserError(
                f"`model.plm`={self.plm!r} is a {config.model_type}, which is no encoder-decoder: use a T5, BART or "
                "kin, or another `model`."
            )
        model, fresh = load_model(AutoModelForSeq2SeqLM, self.plm)
        # A released BART asks for long summaries that repeat nothing, which is not what is trained here.
        model.generation_config.update(min_length=0, no_repeat_ngram_size=0, early_stopping=False)
        return model, fresh

    def new_metrics(self) -> Metric:
        return GenerationMetrics(self.task) if self.scores_texts else super().new_metrics()

    @property
    def scores_texts(self) -> bool:
        """Whether all texts together are scored, by BLEU and the like, and not each by itself."""
        return self.task.free_text and set(self.task.metrics) <= generation.METRICS.keys()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = super().tokenizer
        set_languages(tokenizer, self.languages, self.plm)
        return tokenizer

    @cached_property
    def encoding_key(self) -> str:
        self.check_answers()
        cut = self.answer_length if self.task.free_text else None
        return f"{super().encoding_key} {self.task_prefix} {cut} {self.languages}"

    def write(self, texts: list[str], max_length: int | None = None) -> list[list[int]]:
        """The tokens of texts that are to be written."""
        return target_tokens(self.tokenizer, texts, self._start, max_length)

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
        if self.task.free_text and "answers" in rows:
            targets = [next(iter(answers), "") for answers in rows["answers"]]
            features["target_ids"] = self.write(targets, self.answer_length)
        elif "label" in rows:
            features["target_ids"] = self.write([self.task.target_text(label) for label in rows["label"]])
        return features

    @cached_property
    def answer_length(self) -> int:
        """The most tokens to generate: one more than the longest label, so that longer answers are seen as wrong.

        For free text it is 128, as in the papers' code, or as many as the model has positions.
        """
        if not self.task.free_text:
            return self.max_new_tokens or 1 + max(map(len, self.write(self.answers)))
        positions = getattr(load_config(self.plm), "max_position_embeddings", None)
        if positions is not None and (self.max_new_tokens or 0) > positions:
            raise UserError(
                f"`model.max_new_tokens`={self.max_new_tokens}: `model.plm`={self.plm!r} has {positions} positions."
            )
        return self.max_new_tokens or min(128, positions or 128)

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
        read = self.tokenizer.batch_decode(self.write(self.answers), skip_special_tokens=True)
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
                "use a model whose vocabulary has them, or `SequenceClassification`."
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

    def _score(self, metrics: nn.Module, batch: Batch) -> None:
        if not isinstance(metrics, GenerationMetrics):
            super()._score(metrics, batch)
            return
        encoded, tokens = self._encode(batch), (batch["target_ids"] >= 0).sum(-1)
        losses = self._token_losses(batch, encoded, batch["target_ids"]).sum(-1).double()
        metrics.update(batch["row"], losses, tokens, batch["answers"], self._generate(batch, encoded))

    def _generate(self, batch: Batch, encoded: ModelOutput) -> list[str]:
        assert self.model is not None
        start = self._opening.to(batch["row"].device)
        tokens = self.model.generate(
            encoder_outputs=encoded,
            attention_mask=batch["attention_mask"],
            decoder_input_ids=start.expand(len(batch["row"]), -1),
            decoder_start_token_id=int(start[0]),
            max_new_tokens=self.answer_length,
            do_sample=False,
            num_beams=self.num_beams,
        )
        return self.tokenizer.batch_decode(tokens[:, len(start) :], skip_special_tokens=True)

    @cached_property
    def _opening(self) -> Tensor:
        """What the decoder reads before a text's own first token, as in training."""
        assert self.model is not None
        empty, text = self.write(["", "0"])
        shifted = self.model.prepare_decoder_input_ids_from_labels(torch.tensor([empty], device=self.model.device))
        return shifted[0, : 1 + opening(empty, text)]

    @cached_property
    def _start(self) -> int | None:
        """The token that the decoder starts with, if the config says it."""
        config = load_config(self.plm)
        start: int | None = getattr(config, "decoder_start_token_id", None)
        own = getattr(config, "decoder", None)
        return getattr(own, "bos_token_id", None) if start is None else start

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
            target = torch.tensor(self.write([self.task.target_text(label)]), device=batch["row"].device)
            target = target.expand(len(batch["row"]), -1)
            log_likelihoods.append(-self._token_losses(batch, encoded, target).sum(-1))
        return torch.stack(log_likelihoods, -1).softmax(-1)
