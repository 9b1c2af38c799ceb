"""Soft prompts: Lester et al., The power of scale for parameter-efficient prompt tuning, 2021, arXiv:2104.08691."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.adapters.placement import Placement


class SoftPrompt(Placement):
    """Trained embeddings before the input embeddings of the encoder of a sequence-to-sequence model.

    Args:
        host: the encoder.
        in_features: width of its embeddings.
        out_features: the same.
        prompt: initial values of the embeddings, `(num_tokens, in_features)`.
    """

    takes_blocks = True

    def __init__(self, host: nn.Module, in_features: int, out_features: int, prompt: Tensor) -> None:
        super().__init__(host, in_features, out_features)
        self.prompt = nn.Parameter(prompt)
        self.main_input_name = "input_ids"  # `generate` reads it

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if inputs_embeds is None:
            inputs_embeds = cast(Any, self.host).get_input_embeddings()(input_ids)
        if attention_mask is None:
            attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        prompt = self.prompt.to(inputs_embeds.dtype).expand(len(inputs_embeds), -1, -1)
        embeds = torch.cat((prompt, inputs_embeds), dim=1)
        mask, order = prompt_mask(attention_mask, len(self.prompt))
        return self.host(inputs_embeds=embeds.take_along_dim(order[..., None], 1), attention_mask=mask, **kwargs)

    @property
    def merge_blocker(self) -> str | None:
        return "a soft prompt is a longer input, no change of a weight"


class PromptedDecoder(Placement):
    """The decoder that goes with a `SoftPrompt`. It attends to the prompt, so its encoder mask must cover it.

    Args:
        host: the decoder.
        in_features: width of its embeddings.
        out_features: the same.
        num_tokens: length of the prompt.
    """

    takes_blocks = True

    def __init__(self, host: nn.Module, in_features: int, out_features: int, num_tokens: int) -> None:
        super().__init__(host, in_features, out_features)
        self.num_tokens = num_tokens

    def forward(self, *args: Any, encoder_attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        if encoder_attention_mask is not None:
            encoder_attention_mask, _ = prompt_mask(encoder_attention_mask, self.num_tokens)
        return self.host(*args, encoder_attention_mask=encoder_attention_mask, **kwargs)

    @property
    def merge_blocker(self) -> str | None:
        return "its encoder has a soft prompt"


def prompt_mask(attention_mask: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """The attention mask of rows with a prompt, and the order of prompt and row, both `(n, num_tokens + L)`.

    The prompt comes right before a row's first token. Padding on the left comes before both.
    """
    before = (attention_mask.cumsum(-1) == 0).sum(-1, keepdim=True)
    place = torch.arange(num_tokens + attention_mask.shape[-1], device=attention_mask.device).expand(len(before), -1)
    order = torch.where(place < before + num_tokens, place - before, place)
    order = torch.where(place < before, place + num_tokens, order)
    return F.pad(attention_mask, (num_tokens, 0), value=1).take_along_dim(order, 1), order
