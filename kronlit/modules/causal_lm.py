"""Fine-tuning of causal language models; for E2E as in Hu et al., LoRA, 2021, arXiv:2106.09685, section 5.4."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.metrics.generation import GenerationMetrics, check_libraries
from kronlit.modules.batch import Batch
from kronlit.modules.decoder import load_decoder
from kronlit.modules.decoding import decoding
from kronlit.modules.packing import check_packing, packed_batch, packed_logits
from kronlit.modules.padding import pad_rows, padding_side, positions_from_zero
from kronlit.modules.targets import IGNORED, RowReader, TooLong
from kronlit.modules.text import TextModule
from kronlit.modules.token_mean import TokenMean


class CausalLM(TextModule):
    """A frozen causal language model, such as Llama or GPT-2, that writes a text after a prompt.

    On rows of your own (`InstructionFiles`) it learns completions, the assistant's turns, or whole texts, each with the
    end token. The loss is the mean over all target tokens of an optimizer's step, over the batches that it accumulates
    and over processes.

    On E2E, WebNLG and DART the prompt is the row's context and the end-of-text token. The target is a space, the
    reference and that token again. The loss is the mean over the target tokens of a batch. All this is as in LoRA's and
    AdaMix's code. Texts are written by the beam search of Transformers, which ends when no beam can win any more; that
    code searches on to the last token.

    Args:
        max_length: the most tokens of prompt and target together. A prompt that leaves no room for `max_new_tokens`
            keeps its last tokens, on E2E, WebNLG and DART also in training; a target there keeps its first ones.
        too_long: what is done with rows of your own of more than `max_length` tokens: truncate keeps their first
            tokens, and drops those of which no target token is left; drop leaves them out. Both are counted and said.
        loss_over: whether the loss is the mean over the target tokens of the whole step, or of each batch, whose means
            are then averaged. By default batch on E2E, WebNLG and DART, and else step.
        consistency: weight of the divergence per target token between two passes of each batch, with dropout and
            experts of their own; 100 in AdaMix, and for other methods R-Drop.
        label_smoothing: share of the target that is spread over the vocabulary in training; 0.1 in LoRA and AdaMix on
            E2E and WebNLG.
        dropout: dropout rate of the pre-trained model; 0 in LoRA's and AdaMix's code. By default that of its config.
        generate: validation also writes and scores texts, which takes longer; on rows of your own, testing too. On
            E2E, WebNLG and DART testing always does so.
        validate_by: loss or generation: what selects the checkpoint. With generation it is the task's first metric,
            and texts are written as with `generate`.
        num_beams: number of beams of the search; 1 is greedy. By default 10 on E2E, WebNLG and DART, and else 1.
        length_penalty: the search divides a beam's log-probability by its length to this power. By default 0.8 on E2E,
            WebNLG and DART, and else 1.
        no_repeat_ngram_size: no n-gram of this many tokens may occur twice in a text; 0 allows all. By default 4 on
            E2E, WebNLG and DART, and else 0.
        max_new_tokens: the most tokens of a text. By default 64 on E2E, WebNLG and DART, and else half of `max_length`,
            at most 256.
        attn_implementation: what computes attention: sdpa, eager, flash_attention_2, or another that Transformers has.
            By default it chooses.
        **kwargs: what `TextModule` takes.
    """

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        *,
        max_length: int = 512,
        too_long: TooLong = "truncate",
        loss_over: Literal["step", "batch"] | None = None,
        consistency: float = 0.0,
        label_smoothing: float = 0.0,
        dropout: float | None = None,
        generate: bool = False,
        validate_by: Literal["loss", "generation"] = "loss",
        num_beams: int | None = None,
        length_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        max_new_tokens: int | None = None,
        attn_implementation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(plm, method, task, max_length=max_length, consistency=consistency, **kwargs)
        own = bool(task.form)
        for name, share in (("label_smoothing", label_smoothing), ("dropout", dropout)):
            if share is not None and not 0 <= share < 1:
                raise UserError(f"`model.{name}`={share} must be a share, from 0 to below 1.")
        self.decoding = decoding(own, max_length, num_beams, length_penalty, no_repeat_ngram_size, max_new_tokens)
        self.too_long = too_long
        self.loss_over = loss_over or ("step" if own else "batch")
        self.token_mean = TokenMean(max_length)
        self.label_smoothing = label_smoothing
        self.dropout, self.attn_implementation = dropout, attn_implementation
        self.validate_by = validate_by
        self.writes_in_validation = generate or validate_by == "generation"
        self._choose_metrics()

    def _choose_metrics(self) -> None:
        """Say what selects the checkpoint, and check that texts can be scored where they are written."""
        if self.writes_in_validation and not self.task.metrics:
            raise UserError("`model.generate`: rows of text alone have no completion that a text could be scored by.")
        self.writes_in_test = self.writes_in_validation or not self.task.form
        if self.writes_in_test:
            check_libraries(self.task)
        by_loss = self.validate_by == "loss"
        for metrics in self.val_metrics:
            assert isinstance(metrics, GenerationMetrics)
            metrics.by_loss = by_loss
        self.test_metrics.by_loss = by_loss and bool(self.task.form)

    def new_metrics(self) -> Metric:
        return GenerationMetrics(self.task)

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        settings = (self.max_length, self.dropout, self.attn_implementation)
        model, fresh = load_decoder(self.plm, self._dtype_to_load(), *settings)
        data = getattr(self._trainer, "datamodule", None)
        if getattr(data, "packing", False) and not torch.empty(0).is_meta:
            check_packing(model, self.plm)
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
        own = (self.too_long, chat.template if (chat := self.reader.chat) else "") if self.task.form else ()
        return " ".join(map(str, (super().encoding_key, self.decoding.max_new_tokens, self.end, *own)))

    @cached_property
    def reader(self) -> RowReader:
        """Makes tokens of rows of one's own."""
        room = self.max_length - self.decoding.max_new_tokens
        sizes = (self.max_length, room, self.too_long)
        return RowReader(self.tokenizer, self.plm, self.task.form, self.end, *sizes)

    def reads(self) -> tuple[str, ...]:
        return (*super().reads(), self.task.form) if self.task.form else super().reads()

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Prompts as `input_ids`; `target_ids` has a list for each of a row's answers.

        Rows of one's own have the whole row as `input_ids`, its targets as `labels`, and its prompt as `prompt_ids`.
        """
        if self.task.form:
            return self.reader.sequences(rows) if "answers" in rows else {"input_ids": self.reader.prompts(rows)}
        room = self.max_length - self.decoding.max_new_tokens
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
        """Left on E2E, WebNLG and DART, so that all prompts end where their texts begin; else the tokenizer's."""
        return padding_side(self.tokenizer) if self.task.form else "left"

    @property
    def padding(self) -> None:
        """None: targets are told by their distance from the end."""

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """Prompts for generation, padded on the left, and sequences for the loss, padded on `padding_side`.

        A sequence is a row of one's own, or a prompt with one of its answers. `owner`, `(sequences,)`, is the row of
        each. `target_ids`, `(sequences, tokens)`, are the labels of the last columns of `input_ids`, -100 where there
        is no target. Joined rows are as in `packed_batch`.
        """
        if "position_ids" in rows[0]:
            return packed_batch(rows, self.end)
        batch: Batch = {"row": torch.tensor([row["row"] for row in rows])}
        prompts = [row["prompt_ids" if "prompt_ids" in row else "input_ids"] for row in rows]
        batch["prompt_ids"], batch["prompt_mask"] = self._pad(prompts, "left")
        if "answers" in rows[0]:
            batch["answers"] = [row["answers"] for row in rows]
        if "labels" in rows[0]:
            pairs = [(number, row["input_ids"], row["labels"]) for number, row in enumerate(rows)]
        else:
            answers = [(number, ids) for number, row in enumerate(rows) for ids in row.get("target_ids") or []]
            pairs = [(number, [*rows[number]["input_ids"], *ids], ids) for number, ids in answers]
        if pairs:
            owners, sequences, labels = zip(*pairs, strict=True)
            batch["owner"] = torch.tensor(owners)
            batch["input_ids"], batch["attention_mask"] = self._pad(sequences, self.padding_side)
            targets = pad_rows(labels, IGNORED, self.padding_side)
            first = int((targets >= 0).any(0).long().argmax())
            batch["target_ids"] = targets[:, first:]
        return batch

    def _pad(self, sequences: Sequence[list[int]], side: str) -> tuple[Tensor, Tensor]:
        """Tokens padded on a side, and their mask, both `(n, tokens)`."""
        ones = [[1] * len(ids) for ids in sequences]
        return pad_rows(sequences, self.end, side), pad_rows(ones, 0, side)

    # --- losses ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss if self.loss_over == "batch" else self.token_mean.share(loss, (batch["target_ids"] >= 0).sum())

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.loss_over == "step":
            self.token_mean.rescale(optimizer, self.trainer)
        super().on_before_optimizer_step(optimizer)

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        if "position_ids" in batch:
            assert self.model is not None
            logits, target = packed_logits(self.model, batch)
        else:
            target = batch["target_ids"]
            logits = self._logits(batch["input_ids"], batch["attention_mask"], target)
        there = target >= 0
        log_probabilities = logits[there].log_softmax(-1)
        smooth = self.label_smoothing
        losses = F.nll_loss(log_probabilities, target[there], reduction="none")
        if not smooth:
            return losses, log_probabilities
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

    def unlabelled_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Those of the next token after each token of the prompts."""
        assert self.model is not None
        if self.task.form == "text" and "target_ids" in batch:
            raise UserError("`ensemble`='emea' must not see what is scored, and rows of text alone have no prompt.")
        ids, mask = batch["prompt_ids"], batch["prompt_mask"]
        positions = {"position_ids": positions_from_zero(mask)} if self._counts_from_zero else {}
        return self.model(ids, attention_mask=mask, **positions, use_cache=False).logits.float(), mask.bool()

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
        written = self.writes_in_test if metrics is self.test_metrics else self.writes_in_validation
        metrics.update(batch["row"], *self._losses(batch), batch["answers"], self.texts(batch) if written else None)

    # --- generation ---

    def texts(self, batch: Batch) -> list[str]:
        assert self.model is not None
        tokens = self.decoding.write(self.model, batch["prompt_ids"], batch["prompt_mask"], self.ends, self.end)
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        if self.task.form:
            return [text.strip() for text in texts]
        return [text.split("\n\n")[0].strip() for text in texts]  # an empty line ends a text in LoRA's code

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end a text: the end token; on rows of one's own, also those that the model's makers name."""
        assert self.model is not None
        if not self.task.form:
            return [self.end]
        named = getattr(self.model.generation_config, "eos_token_id", None)
        named = named if isinstance(named, list) else [named]
        turn = self.reader.chat.end if self.reader.chat else None
        return sorted({token for token in (self.end, turn, *named) if token is not None})
