"""Sites: the places in a Transformer where something can be added, in one table for all architectures."""

import re

from torch import nn

from kronlit.adapters.linear import is_linear

# `ffn` is the feed-forward block, for a `ParallelAdapter`. BERT's family has no module for the whole block. There
# `ffn` is the block's second half, which also receives the block's input.

BERT = {
    "query": r"attention\.self\.query",
    "key": r"attention\.self\.key",
    "value": r"attention\.self\.value",
    "attention_output": r"attention\.output\.dense",
    "self_attention_output": r"attention\.output\.dense",
    "ffn_input": r"intermediate\.dense",
    "ffn_output": r"\d+\.output\.dense",
    "ffn": r"\d+\.output",
}

T5 = {  # all three kinds of attention: the encoder's, the decoder's, and the decoder's over the encoder
    "query": r"(SelfAttention|EncDecAttention)\.q",
    "key": r"(SelfAttention|EncDecAttention)\.k",
    "value": r"(SelfAttention|EncDecAttention)\.v",
    "attention_output": r"(SelfAttention|EncDecAttention)\.o",
    "self_attention_output": r"SelfAttention\.o",
    "ffn_input": r"DenseReluDense\.wi(_0|_1)?",
    "ffn_output": r"DenseReluDense\.wo",
    "ffn": r"DenseReluDense",
    "ffn_before_norm": r"(encoder\.block\.\d+\.layer\.1|decoder\.block\.\d+\.layer\.2)",  # with its layer norm
}

GPT2 = {
    "query": r"attn\.c_attn",
    "key": r"attn\.c_attn",
    "value": r"attn\.c_attn",
    "attention_output": r"attn\.c_proj",
    "self_attention_output": r"attn\.c_proj",
    "ffn_input": r"mlp\.c_fc",
    "ffn_output": r"mlp\.c_proj",
    "ffn": r"mlp",
}

# Transformers has renamed the modules of ViT and DeiT (with 5.0) and of DINOv2 (within 5), while saved files keep the
# older names, so both are here. Only `ffn` has no older name: in the older ViT no module receives the normalised input.
VIT = {
    "query": r"attention\.(q_proj|attention\.query)",
    "key": r"attention\.(k_proj|attention\.key)",
    "value": r"attention\.(v_proj|attention\.value)",
    "attention_output": r"attention\.(o_proj|output\.dense)",
    "self_attention_output": r"attention\.(o_proj|output\.dense)",
    "ffn_input": r"(mlp\.fc1|intermediate\.dense)",
    "ffn_output": r"(mlp\.fc2|\d+\.output\.dense)",
    "ffn": r"mlp",
}

DINOV2 = VIT | {  # the giant has a gated network
    "ffn_input": r"mlp\.(fc1|gate_proj|up_proj|weights_in)",
    "ffn_output": r"mlp\.(fc2|down_proj|weights_out)",
}

CLIP = {
    "query": r"self_attn\.q_proj",
    "key": r"self_attn\.k_proj",
    "value": r"self_attn\.v_proj",
    "attention_output": r"self_attn\.out_proj",
    "self_attention_output": r"self_attn\.out_proj",
    "ffn_input": r"mlp\.fc1",
    "ffn_output": r"mlp\.fc2",
    "ffn": r"mlp",
}

SITES: dict[str, dict[str, str]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "electra": BERT,
    "deberta-v2": BERT
    | {
        "query": r"attention\.self\.query_proj",
        "key": r"attention\.self\.key_proj",
        "value": r"attention\.self\.value_proj",
    },
    "distilbert": {
        "query": r"attention\.q_lin",
        "key": r"attention\.k_lin",
        "value": r"attention\.v_lin",
        "attention_output": r"attention\.out_lin",
        "self_attention_output": r"attention\.out_lin",
        "ffn_input": r"ffn\.lin1",
        "ffn_output": r"ffn\.lin2",
        "ffn": r"ffn",
    },
    "mpnet": BERT
    | {
        "query": r"attention\.attn\.q",
        "key": r"attention\.attn\.k",
        "value": r"attention\.attn\.v",
        "attention_output": r"attention\.attn\.o",
        "self_attention_output": r"attention\.attn\.o",
    },
    "t5": T5,
    "mt5": T5,
    "gpt2": GPT2,
    "openai-gpt": GPT2,
    "vit": VIT,
    "deit": VIT,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2,
    "clip": {site: rf"vision_model\.(.*\.)?{pattern}" for site, pattern in CLIP.items()},  # not in the text model
    "clip_vision_model": CLIP,
}
"""Maps an architecture (`config.model_type`) and a site to a pattern for the end of a module's name."""

FUSED = {"gpt2": ("query", "key", "value"), "openai-gpt": ("query", "key", "value")}
"""Architectures in which one module computes several sites: equal parts of its output, in this order."""


def matches(model: nn.Module, site: str) -> list[str]:
    """Names of the modules of `model` at `site`, in the model's order.

    Args:
        model: a Transformers model.
        site: a site of the model's architecture; or, for architectures and places that the table lacks, a regular
            expression that must match a whole module name. If it matches linear modules, only those are taken.

    Raises:
        ValueError: if nothing matches; the message lists what the model has.
    """
    architecture = architecture_of(model)
    known = SITES.get(architecture, {})
    pattern = rf"(.*\.)?{known[site]}" if site in known else site
    found = {name: module for name, module in model.named_modules() if matches_whole(pattern, name)}
    linear = [name for name, module in found.items() if is_linear(module)]
    if not found:
        names = sorted({without_layers(name) for name, module in model.named_modules() if is_linear(module)})
        has = ", ".join(known) or f"no site of its own; its linear modules are {', '.join(names)}"
        raise ValueError(
            f"{architecture!r} has no site {site!r}; it has {has}. "
            "A site may also be a regular expression over whole module names."
        )
    return linear or list(found)


def known_sites(model: nn.Module, sites: list[str]) -> bool:
    """Whether the table has all `sites` for the model's architecture, so that none is a regular expression."""
    return all(site in SITES.get(architecture_of(model), {}) for site in sites)


def slice_of(model: nn.Module, site: str, out_features: int) -> slice | None:
    """The slice of its module's output that belongs to `site`; `None` if that is the whole output."""
    parts = FUSED.get(architecture_of(model), ())
    if site not in parts:
        return None
    width = out_features // len(parts)
    return slice(parts.index(site) * width, (parts.index(site) + 1) * width)


def architecture_of(model: nn.Module) -> str:
    """The `model_type` of a Transformers model; for other models, the name of the class."""
    return getattr(getattr(model, "config", None), "model_type", type(model).__name__)


def layer_of(name: str) -> int:
    """The layer that a module belongs to, by its name, counted from 0; 0 if it is in no layer."""
    number = re.search(r"\.(\d+)\.", f".{name}.")
    return int(number[1]) if number else 0


def without_layers(name: str) -> str:
    """`name` with a star in place of each layer number. As a regular expression, it matches all those names."""
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def matches_whole(pattern: str, name: str) -> bool:
    """Whether the whole of `name` matches `pattern`."""
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ValueError(f"the site {pattern!r} is neither a known site nor a regular expression: {error}.") from error
