"""Lester et al., The power of scale for parameter-efficient prompt tuning, 2021, arXiv:2104.08691."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kronlit.adapters import Insertion
from kronlit.adapters import inject as insert
from kronlit.adapters.prompt import PromptedDecoder, SoftPrompt
from kronlit.methods.base import Group, Method


@dataclass(frozen=True)
class PromptTuning(Method):
    """Trained embeddings before the encoder's input, for sequence-to-sequence models such as T5.

    Args:
        num_tokens: length of the prompt.
        init: vocabulary (the embeddings of the vocabulary's first tokens) or random (uniform in ±0.5).
        trains: what is trained besides the prompt: head, layer_norm, bias. Mahabadi et al. (arXiv:2106.04647) train
            nothing else on T5.
    """

    num_tokens: int = 100
    init: Literal["vocabulary", "random"] = "vocabulary"
    trains: tuple[Group, ...] = ("head",)

    def apply(self, model: nn.Module) -> None:
        config = model.config
        if not getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"PromptTuning is for sequence-to-sequence models such as T5, not for {type(model).__name__}."
            )
        prompt = self._start(cast(Any, model).get_input_embeddings().weight)
        super().apply(model)
        insert(
            model,
            [
                Insertion((r"encoder",), partial(SoftPrompt, prompt=prompt)),
                Insertion((r"decoder",), partial(PromptedDecoder, num_tokens=self.num_tokens)),
            ],
        )

    def _start(self, embeddings: Tensor) -> Tensor:
        if not 1 <= self.num_tokens <= len(embeddings):
            raise ValueError(
                f"`num_tokens`={self.num_tokens} must lie between 1 and the size of the vocabulary, {len(embeddings)}."
            )
        start = embeddings.detach()[: self.num_tokens].float().clone()
        return start if self.init == "vocabulary" else torch.nn.init.uniform_(start, -0.5, 0.5)
