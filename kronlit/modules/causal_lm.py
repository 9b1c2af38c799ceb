"""Text generation by a causal language model: Hu et al., LoRA, 2021, arXiv:2106.09685, section 5.4."""

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import AutoModelForCausalLM, LogitsProcessorList, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.metrics.generation import GenerationMetrics
from kronlit.modules.batch import Batch
from kronlit.modules.padding import pad_rows
from kronlit.modules.plm import load_model
from kronlit.modules.repetition import NoRepeatInText
from kronlit.modules.text import TextModule


class CausalLM(TextModule):
    """A frozen causal language model, such as GPT-2, that writes a text after a prompt.

    The prompt is the row's context and the end-of-text token. The target is a space, the reference and that token
    again. The loss is the mean over target tokens. All this is as in LoRA's and AdaMix's code. Texts are written by the
    beam search of Transformers, which ends when no beam can win any more; that code searches on to the last token.

    Args:
        max_length: the most tokens of prompt and target together. A prompt that leaves no room for `max_new_tokens`
            keeps its last tokens, a target its first ones.
        consistency: weight of the divergence per target token between two passes of each batch, with dropout and
            experts of their own; 100 in AdaMix, and for other methods R-Drop.
        label_smoothing: share of the target that is spread over the vocabulary in training; 0.1 in LoRA and AdaMix on
            E2E and WebNLG.
        dropout: dropout rate of the pre-trained model; 0 in LoRA's and AdaMix's code. By default that of its config.
        validate_by: loss or generation. With generation, which takes longer, validation also writes and scores texts,
            and the task's first metric selects the checkpoint. Testing always does so.
        num_beams: number of beams of the search; 1 is greedy.
        length_penalty: the search divides a beam's log-probability by its length to this power.
        no_repeat_ngram_size: no n-gram of this many tokens may occur twice in a text; 0 allows all.
        max_new_tokens: the most tokens of a text.
        **kwargs: what `TextModule` takes.
    """

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        *,
        max_length: int = 512,
        consistency: float = 0.0,
        label_smoothing: float = 0.0,
        dropout: float | None = None,
        validate_by: Literal["loss", "generation"] = "loss",
        num_beams: int = 10,
        length_penalty: float = 0.8,
        no_repeat_ngram_size: int = 4,
        max_new_tokens: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(plm, method, task, max_length=max_length, consistency=consistency, **kwargs)
        for name, share in (("label_smoothing", label_smoothing), ("dropout", dropout)):
            if share is not None and not 0 <= share < 1:
                raise UserError(f"`model.{name}`={share} must be a share, from 0 to below 1.")
        for name, number, least in (("num_beams", num_beams, 1), ("no_repeat_ngram_size", no_repeat_ngram_size, 0)):
            if number < least:
                raise UserError(f"`model.{name}`={number} must be at least {least}.")
        if not 1 <= max_new_tokens < max_length:
            raise UserError(
                f"`model.max_new_tokens`={max_new_tokens} must lie between 1 and `model.max_length`={max_length}, "
                "which has room for the prompt too."
            )
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.validate_by = validate_by
        self.num_beams = num_beams
        self.length_penalty = length_penalty
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.max_new_tokens = max_new_tokens

    def new_metrics(self) -> Metric:
        return GenerationMetrics(self.task)

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        model, fresh = load_model(AutoModelForCausalLM, self.plm)
        positions = getattr(model.config, "max_position_embeddings", None)
        if positions is not None and self.max_length > positions:
            raise UserError(f"`model.max_length`={self.max_length} exceeds the {positions} positions of {self.plm!r}.")
        for module in model.modules():
            if self.dropout is not None and isinstance(module, nn.Dropout):
                module.p = self.dropout
        return model, fresh

    # --- rows ---

    @cached_property
    def end(self) -> int:
        """The end-of-text token."""
        token: int | None = self.tokenizer.eos_token_id
        if token is None:
            raise UserError(f"the tokenizer of `model.plm`={self.plm!r} has no end-of-text token.")
        return token

    @cached_property
    def encoding_key(self) -> str:
        return f"{super().encoding_key} {self.max_new_tokens} {self.end}"

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Prompts as `input_ids`; `target_ids` has a list for each of a row's answers."""
        room = self.max_length - self.max_new_tokens
        prompts = [[*ids, self.end][-room:] for ids in self.tokenizer(self.sources(rows))["input_ids"]]
        if "answers" not in rows:
            return {"input_ids": prompts}
        targets = [
            [self._target(text)[: self.max_length - len(prompt)] for text in answers]
            for prompt, answers in zip(prompts, rows["answers"], strict=True)
        ]
        longest = [max(map(len, answers), default=0) for answers in targets]
        lengths = [len(prompt) + length for prompt, length in zip(prompts, longest, strict=True)]
        return {"input_ids": prompts, "target_ids": targets, "length": lengths}

    def _target(self, text: str) -> list[int]:
        return [*self.tokenizer(f" {text}", add_special_tokens=False)["input_ids"], self.end]

    @property
    def padding_side(self) -> str:
        """Left, so that all prompts end where their texts begin."""
        return "left"

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """Prompts for generation, and each prompt with each of its answers for the loss, all padded on the left.

        So all targets end in the last column. `owner`, `(answers,)`, is the row of each answer.
        """
        batch: Batch = {"row": torch.tensor([row["row"] for row in rows])}
        batch["prompt_ids"], batch["prompt_mask"] = self._pad([row["input_ids"] for row in rows])
        pairs = [(number, ids) for number, row in enumerate(rows) for ids in row.get("target_ids") or []]
        if "answers" in rows[0]:
            batch["answers"] = [row["answers"] for row in rows]
        if pairs:
            batch["owner"] = torch.tensor([number for number, _ in pairs])
            sequences = [[*rows[number]["input_ids"], *ids] for number, ids in pairs]
            batch["input_ids"], batch["attention_mask"] = self._pad(sequences)
            batch["target_ids"], _ = self._pad([ids for _, ids in pairs], -100)
        return batch

    def _pad(self, sequences: list[list[int]], fill: int | None = None) -> tuple[Tensor, Tensor]:
        """Tokens padded on the left, and their mask, both `(n, tokens)`."""
        fill = self.end if fill is None else fill
        ones = [[1] * len(ids) for ids in sequences]
        return pad_rows(sequences, fill, self.padding_side), pad_rows(ones, 0, self.padding_side)

    # --- losses ---

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        target = batch["target_ids"]
        there = target >= 0
        log_probabilities = self._logits(batch["input_ids"], batch["attention_mask"], target)[there].log_softmax(-1)
        smooth = self.label_smoothing
        losses = F.nll_loss(log_probabilities, target[there], reduction="none")
        return (1 - smooth) * losses - smooth * log_probabilities.mean(-1), log_probabilities

    def _logits(self, input_ids: Tensor, attention_mask: Tensor, target_ids: Tensor) -> Tensor:
        """The logits of each target token, `(n, tokens, vocabulary)`."""
        assert self.model is not None
        logits: Tensor = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **self.positions(attention_mask),
            use_cache=False,
            logits_to_keep=target_ids.shape[1] + 1,
        ).logits
        return logits[:, :-1].float()

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the cross-entropy over each row's target tokens, and the number of these, both `(n,)`."""
        loss = torch.zeros(len(batch["row"]), dtype=torch.float64, device=batch["row"].device)
        tokens = torch.zeros_like(batch["row"])
        # A row may have many answers, so compute only as many at once as there are rows.
        for part in torch.arange(len(batch["owner"])).split(len(batch["row"])):
            owner, target = batch["owner"][part], batch["target_ids"][part]
            logits = self._logits(batch["input_ids"][part], batch["attention_mask"][part], target)
            each = F.cross_entropy(logits.mT, target, ignore_index=-100, reduction="none")
            loss.index_add_(0, owner, each.sum(-1).double())
            tokens.index_add_(0, owner, (target >= 0).sum(-1))
        return loss, tokens

    def _score(self, metrics: nn.Module, batch: Batch) -> None:
        assert isinstance(metrics, GenerationMetrics)
        written = metrics is self.test_metrics or self.validate_by == "generation"
        metrics.update(batch["row"], *self._losses(batch), batch["answers"], self.texts(batch) if written else None)

    # --- generation ---

    def texts(self, batch: Batch) -> list[str]:
        assert self.model is not None
        prompts: Tensor = batch["prompt_ids"]
        processors = LogitsProcessorList()
        if self.no_repeat_ngram_size:
            processors.append(NoRepeatInText(self.no_repeat_ngram_size, prompts.shape[1]))
        tokens = self.model.generate(
            input_ids=prompts,
            attention_mask=batch["prompt_mask"],
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
            do_sample=False,
            eos_token_id=self.end,
            pad_token_id=self.end,
            logits_processor=processors,
        )
        texts = self.tokenizer.batch_decode(tokens[:, prompts.shape[1] :], skip_special_tokens=True)
        return [text.split("\n\n")[0].strip() for text in texts]  # an empty line ends a text in LoRA's code
