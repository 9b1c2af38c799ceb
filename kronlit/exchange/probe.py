"""Compares a model before and after merging on made-up rows."""

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from kronlit.config.user_error import UserError
from kronlit.modules import FrozenPLM, ImageClassification, MultipleChoice
from kronlit.modules.text import TextModule

TOLERANCE = 1e-4
"""Largest tolerated difference, as a share of the largest logit.

It is above the rounding of float32, and below the error of a wrong merge.
"""

Rows = list[dict[str, Tensor]]
Logits = Tensor | str
"""The logits of all rows, one after the other; or the reason why there are none."""


def probe(module: FrozenPLM) -> Rows:
    """Two rows of input for the model, equal in every call. Each is a batch of its own, so that nothing is padded."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(module, MultipleChoice):
        rows = [text_probe(module, generator) for _ in range(2)]
        return [{name: value[:, None] for name, value in row.items()} for row in rows]
    if isinstance(module, TextModule):
        return [text_probe(module, generator) for _ in range(2)]
    if isinstance(module, ImageClassification):
        pixels = torch.randint(256, (2, 1, *module.reader.shape), generator=generator, dtype=torch.uint8)
        return [{"pixel_values": module.reader.normalise(image)} for image in pixels]
    assert module.model is not None
    return [dict(module.model.dummy_inputs)]


def text_probe(module: TextModule, generator: torch.Generator) -> dict[str, Tensor]:
    """Random words from the vocabulary, with the special tokens that the tokenizer adds."""
    assert module.model is not None
    tokenizer, config = module.tokenizer, module.model.config
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    drawn = torch.randint(len(words), (16,), generator=generator).tolist()
    text, length = tokenizer.decode([words[number] for number in drawn]), min(module.max_length, 32)
    tokens = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")["input_ids"]
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    # An encoder-decoder that writes no text makes its decoder's input itself.
    named = type(module.model).__name__
    decodes = config.is_encoder_decoder and not any(kind in named for kind in ("Classification", "QuestionAnswering"))
    return inputs | ({"decoder_input_ids": tokens} if decodes else {})


def logits(rows: Rows, model: PreTrainedModel) -> Logits:
    """The logits of `model` for `rows`, such as those of `probe`."""
    if not rows:
        return f"no rows can be made up for a {type(model).__name__}"
    try:
        with torch.no_grad():
            found = torch.cat([all_logits(model(**row)) for row in rows])
    except Exception as error:  # any model's own code runs here, on rows that it may not accept
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found if found.isfinite().all() else "its logits are no finite numbers"


def all_logits(output: ModelOutput) -> Tensor:
    """The logits of a model in one row; those of where an answer begins and ends, for a model of answers."""
    parts = [output.logits] if "logits" in output else [output.start_logits, output.end_logits]
    return torch.cat([part.float().flatten() for part in parts])


def compare_models(before: Logits, after: Logits) -> str:
    """A sentence on how far the logits of two models differ.

    Raises:
        ValueError: if they differ by more than rounding.
    """
    if isinstance(before, str):
        return f"not checked: no logits could be compared, as the model failed on made-up rows ({before})."
    if isinstance(after, str):
        raise UserError(f"the merged model fails where the one before merging does not: {after}.")
    difference, reach = largest_difference(before, after)
    if difference > TOLERANCE * reach + 1e-6:  # the latter for logits that are all near zero
        raise UserError(
            f"the merged model is another one: a logit on a probe batch differs by {difference:.2e} (logits reach "
            f"{reach:.2e})."
        )
    return f"largest difference of a logit on a probe batch: {difference:.2e} (logits reach {reach:.2e})."


def describe_difference(before: Logits, after: Logits, what: str) -> str:
    """A sentence on how far the logits of two models differ, of which one was rounded or cut, so that they may.

    Args:
        before: the logits of the one.
        after: those of the other.
        what: what was done to the other, such as "Written in bfloat16".
    """
    if isinstance(before, str) or isinstance(after, str):
        reason = before if isinstance(before, str) else after
        return f"{what}: not compared, as the model failed on made-up rows ({reason})."
    largest, reach = largest_difference(before, after)
    found = f"{largest:.2e} at most, {(after - before).abs().mean().item():.2e} on average"
    return f"{what}: difference of a logit on a probe batch: {found} (logits reach {reach:.2e})."


def largest_difference(before: Tensor, after: Tensor) -> tuple[float, float]:
    """The largest difference of a logit, and the largest logit."""
    return (after - before).abs().max().item(), before.abs().max().item()
