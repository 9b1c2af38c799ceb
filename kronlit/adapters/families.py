"""Families of architectures: how the modules at each site are named.

A family is known by the names of its modules, attention and feed-forward network apart, so a new architecture whose
modules are named like a family's has that family's sites. `NAMED` has the architectures that depart from all.
"""

import re
from collections.abc import Collection

Sites = dict[str, str]
"""Maps a site to a pattern for the end of a module's name."""

# `ffn` is the feed-forward block, for a `ParallelAdapter`: its input is that of the first linear module, after a layer
# norm before it, and its output is what is added to the residual stream. BERT's family has no module for the whole
# block. There `ffn` is the block's second half, which also receives the block's input. `ffn_before_norm` is a module
# whose input is the residual stream before the layer norm, and whose output is that with the block's output added.

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

MAMBA = {"ffn_input": r"mixer\.(in_proj|x_proj)", "ffn_output": r"mixer\.out_proj"}  # it has no attention

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


def attention(query: str, key: str, value: str, output: str) -> Sites:
    """The sites of attention whose projections have these names, in each layer.

    What holds them is called `self_attn`, `attention` and the like. One whose name begins with `encoder_` or has
    `cross` in it attends to an encoder's states.
    """
    every, own = r"\d+\.\w*att\w*(\.attention)?", r"\d+\.(?!\w*cross|encoder_)\w*att\w*(\.attention)?"
    return {
        "query": rf"{every}\.{query}",
        "key": rf"{every}\.{key}",
        "value": rf"{every}\.{value}",
        "attention_output": rf"{every}\.{output}",
        "self_attention_output": rf"{own}\.{output}",
    }


def attention_of(sites: Sites) -> Sites:
    """Those of `sites` that are attention's."""
    return {site: pattern for site, pattern in sites.items() if not site.startswith("ffn")}


def ffn_of(sites: Sites) -> Sites:
    """Those of `sites` that are the feed-forward network's."""
    return {site: pattern for site, pattern in sites.items() if site.startswith("ffn")}


OUTPUT = r"(o_proj|out_proj|dense|Wo|c_proj)"
FUSED = r"(query_key_value|qkv_proj|Wqkv|c_attn)"

ATTENTION: dict[str, Sites] = {
    "Llama, BART, CLIP, most": attention("q_proj", "k_proj", "v_proj", OUTPUT),
    "GPT-NeoX, Phi-3, ModernBERT": attention(FUSED, FUSED, FUSED, OUTPUT),
    "BERT": attention_of(BERT),
    "T5": attention_of(T5),
}
"""Families of attention, by models that are of them. A model is of the first of which it has query, key and value."""

BLOCK = r"\d+\.(mlp|ffn|feed_forward)"
FIRST = r"(gate_proj|up_proj|gate_up_proj|fc1|c_fc|fc_in|dense_h_to_4h|Wi|intermediate_dense)"
LAST = r"(down_proj|fc2|c_proj|fc_out|dense_4h_to_h|Wo|output_dense)"
BERT_WITHOUT_BLOCK = {site: BERT[site] for site in ("ffn_input", "ffn_output")}
BERT_NORM_FIRST = attention_of(BERT) | BERT_WITHOUT_BLOCK | {"ffn_before_norm": BERT["ffn"]}

FFN: dict[str, tuple[str, Sites]] = {
    "Llama, GPT-2, most": (
        rf"{BLOCK}\.{LAST}",
        {"ffn_input": rf"{BLOCK}\.{FIRST}", "ffn_output": rf"{BLOCK}\.{LAST}", "ffn": BLOCK},
    ),
    "BART, OPT": (r"\d+\.fc2", {"ffn_input": r"\d+\.fc1", "ffn_output": r"\d+\.fc2"}),  # no module holds the two
    "BERT": (r"\d+\.output\.LayerNorm", ffn_of(BERT)),
    # Here a norm comes first, and the second half does not see its output.
    "BERT, norm first": (BERT["ffn_output"], BERT_WITHOUT_BLOCK),
    "T5": (T5["ffn_output"], ffn_of(T5)),
}
"""Families of feed-forward networks, each with a pattern of a name that only its models have; the first counts."""

NAMED: dict[str, Sites] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "electra": BERT,
    "deberta": BERT | dict.fromkeys(("query", "key", "value"), r"attention\.self\.in_proj"),
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
    **dict.fromkeys(("esm", "megatron-bert", "roberta-prelayernorm", "xlm-roberta-xl"), BERT_NORM_FIRST),
    "albert": attention("query", "key", "value", "dense")
    | {"ffn_input": r"\d+\.ffn", "ffn_output": r"\d+\.ffn_output"},
    "funnel": attention("q_head", "k_head", "v_head", "post_proj")
    | {"ffn_input": r"ffn\.linear_1", "ffn_output": r"ffn\.linear_2"},
    "xlnet": {"ffn_input": r"ff\.layer_1", "ffn_output": r"ff\.layer_2"},
    "t5": T5,
    "mt5": T5,
    "gpt2": GPT2,
    "openai-gpt": GPT2,
    "vit": VIT,
    "deit": VIT,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2,
    "clip_vision_model": CLIP,
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), MAMBA),
    "nemotron_h": {
        "query": r"mixer\.q_proj",
        "key": r"mixer\.k_proj",
        "value": r"mixer\.v_proj",
        "attention_output": r"mixer\.o_proj",
        "self_attention_output": r"mixer\.o_proj",
        "ffn_input": r"mixer\.(in_proj|up_proj)",
        "ffn_output": r"mixer\.(out_proj|down_proj)",
    },
    "rwkv": {  # without what evaluation divides by powers of 2, past what is added: the weights of both outputs
        "query": r"attention\.receptance",
        "key": r"attention\.key",
        "value": r"attention\.value",
        "ffn_input": r"feed_forward\.key",
    },
}
"""The sites of an architecture (`config.model_type`) that is of no family, or was here before there were families."""


def sites_by_names(names: Collection[str]) -> Sites:
    """The sites of a model of no `NAMED` architecture whose modules have these names; empty if it is of no family."""

    def has(pattern: str) -> bool:
        found = re.compile(rf"(.*\.)?{pattern}")
        return any(found.fullmatch(name) for name in names)

    families = (family for family in ATTENTION.values() if all(has(family[site]) for site in ("query", "key", "value")))
    networks = (family for sign, family in FFN.values() if has(sign))
    sites = next(families, {}) | next(networks, {})
    return {site: pattern for site, pattern in sites.items() if has(pattern)}
