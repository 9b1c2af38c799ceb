"""A batch on which two models are compared."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def probe(model: PreTrainedModel) -> dict[str, Tensor]:
    """Two made-up inputs of `model`, the same in every call: tokens `(2, 16)`, or images of its size."""
    generator = torch.Generator().manual_seed(0)
    if model.main_input_name == "pixel_values":
        config = getattr(model.config, "vision_config", model.config)
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.randn(2, config.num_channels, height, width, generator=generator)}
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(vocabulary, (2, 16), generator=generator)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return inputs | ({"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {})


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    """Those of `probe`, `(2, ...)`."""
    result: Tensor = model(**probe(model)).logits
    return result.float()
