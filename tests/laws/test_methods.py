"""Published parameter counts, on models of the true size that have no weights."""

import copy
from functools import cache

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    LlamaConfig,
    PhiConfig,
    PreTrainedConfig,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

import kronlit
from kronlit import (
    PA,
    SURM,
    AdaMix,
    AdaMixKronA,
    AdaMixLoRA,
    AdapterDrop,
    BitFit,
    Compacter,
    CompacterPP,
    FullFineTuning,
    HeadOnly,
    Houlsby,
    IntrinsicSAID,
    KronA,
    KronAB,
    KronABRes,
    LiST,
    LoRA,
    LowRankAdapter,
    Pfeiffer,
    PHMAdapter,
    PromptTuning,
    SURMAdapter,
)
from kronlit.methods.base import group

# The papers' code resizes T5's vocabulary to the tokenizer's 32,100, hence their 222,882,048 parameters.
T5_BASE = T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12, vocab_size=32100, decoder_start_token_id=0)
ROBERTA_BASE = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
ROBERTA_LARGE = RobertaConfig(
    vocab_size=50265,
    max_position_embeddings=514,
    type_vocab_size=1,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
)
BERT_BASE = BertConfig()
VIT_BASE = ViTConfig()
GPT2_MEDIUM = GPT2Config(n_embd=1024, n_layer=24, n_head=16)
ALL = (T5_BASE, ROBERTA_BASE, ROBERTA_LARGE, BERT_BASE, VIT_BASE, GPT2_MEDIUM)
CONFIGS = {(config.model_type, config.hidden_size): config for config in ALL}
CLASSES = {
    "t5": T5ForConditionalGeneration,
    "bert": BertModel,
    "roberta": RobertaModel,
    "gpt2": GPT2LMHeadModel,
    "vit": ViTModel,
}
NORMS = ("layer_norm",)
PUBLISHED = [
    # T5-base, each method with the layer norms where its paper trains them. Edalati et al., table 1: KronA and LoRA
    # 0.07, PA 0.06, KronA^B about 0.07 (two modules a block, a bias each), Adapter 0.07 (Houlsby of width 1)
    (T5_BASE, KronA(), 110_592, None),
    (T5_BASE, KronA(trains=NORMS), 158_208, "0.0710"),
    (T5_BASE, KronA(a_shape=(2, 384), trains=NORMS), 158_208, "0.0710"),
    (T5_BASE, LoRA(rank=1), 110_592, None),
    (T5_BASE, LoRA(rank=1, trains=NORMS), 158_208, "0.0710"),
    (T5_BASE, KronAB(trains=NORMS), 158_208, "0.0710"),
    (T5_BASE, KronAB(num_biases=1, trains=NORMS), 139_776, "0.0627"),
    (T5_BASE, KronAB(num_biases=2, bias_per="module", trains=NORMS), 185_856, "0.0834"),
    (T5_BASE, KronAB(modules_per_block=1, num_biases=0, trains=NORMS), 84_480, "0.0379"),
    (T5_BASE, KronABRes(trains=NORMS), 158_208 + 24, "0.0710"),
    (T5_BASE, PA(trains=NORMS), 139_824, "0.0627"),
    (T5_BASE, Houlsby(reduction_factor=768, trains=NORMS), 158_256, "0.0710"),
    # Mahabadi et al., tables 1 and 5 to 8, bottleneck 24
    (T5_BASE, Houlsby(trains=NORMS), 1_855_104, "0.8323"),
    (T5_BASE, Pfeiffer(trains=NORMS), 951_360, "0.4268"),
    (T5_BASE, AdapterDrop(trains=NORMS), 1_101_984, "0.4944"),
    (T5_BASE, LowRankAdapter(trains=NORMS), 161_664, "0.0725"),
    (T5_BASE, PHMAdapter(phm_dim=4, trains=NORMS), 534_144, "0.2397"),
    (T5_BASE, PHMAdapter(phm_dim=8, trains=NORMS), 355_968, "0.1597"),
    (T5_BASE, PHMAdapter(phm_dim=12, trains=NORMS), 398_976, "0.1790"),
    (T5_BASE, Compacter(phm_dim=4, trains=NORMS), 161_728, "0.0726"),
    (T5_BASE, Compacter(phm_dim=8, trains=NORMS), 162_176, "0.0728"),
    (T5_BASE, Compacter(phm_dim=12, trains=NORMS), 163_392, "0.0733"),
    (T5_BASE, CompacterPP(phm_dim=4, trains=NORMS), 104_704, "0.0470"),
    (T5_BASE, CompacterPP(phm_dim=8, trains=NORMS), 105_152, "0.0472"),
    (T5_BASE, CompacterPP(phm_dim=12, trains=NORMS), 106_368, "0.0477"),
    (T5_BASE, PromptTuning(), 76_800, "0.0345"),
    (T5_BASE, IntrinsicSAID(), 20_000, "0.0090"),
    (T5_BASE, BitFit(), 282_468, "0.1267"),  # with the language-model head's bias
    (T5_BASE, FullFineTuning(), 222_882_048, "100.0000"),
    (T5_BASE, HeadOnly(), 0, "0.0000"),
    # Wang et al., tables 1 and 2 after merging, and the released checkpoints' sizes before
    (ROBERTA_LARGE, AdaMix(num_experts=1), 811_392, None),
    (ROBERTA_LARGE, AdaMix(), 1_992_192, None),
    (ROBERTA_LARGE, AdaMix(share_up=False), 3_245_568, None),
    (BERT_BASE, AdaMix(bottleneck_width=48, num_experts=1), 894_528, None),
    (BERT_BASE, AdaMix(bottleneck_width=48), 2_223_360, None),
    (BERT_BASE, AdaMix(bottleneck_width=48, share_up=False), 3_578_112, None),
    # Table of GPT-2 medium: 0.42M, 0.118 %; LoRA's 0.35M is 393,216 by its own arithmetic. Then before merging
    (GPT2_MEDIUM, AdaMix(bottleneck_width=8, num_experts=1), 417_984, "0.1178"),
    (GPT2_MEDIUM, AdaMix(bottleneck_width=8, num_experts=8), 1_795_584, None),
    (GPT2_MEDIUM, AdaMixLoRA(num_experts=1), 393_216, "0.1108"),
    (GPT2_MEDIUM, AdaMixLoRA(), 1_769_472, None),
    (GPT2_MEDIUM, LoRA(rank=4), 393_216, "0.1108"),
    (GPT2_MEDIUM, FullFineTuning(), 354_823_168, "100.0000"),  # 354.92M in LoRA's tables
    # 24 sites: 4 of A, (32, 24), and one of B; 8 of A, (4, 768), and one of B
    (ROBERTA_BASE, AdaMixKronA(), 24 * 5 * 768, None),
    (ROBERTA_BASE, AdaMixLoRA(), 24 * 9 * 4 * 768, None),
    # Without the layer norms
    (T5_BASE, Houlsby(), 1_807_488, None),
    (T5_BASE, Compacter(phm_dim=12), 115_776, None),
    (ROBERTA_BASE, KronA(), 36_864, None),
    (ROBERTA_BASE, KronAB(modules_per_block=1), 27_648, None),
    (ROBERTA_BASE, KronAB(), 55_296, None),
    (ROBERTA_BASE, KronABRes(modules_per_block=1), 27_648 + 12, None),
    (ROBERTA_BASE, Compacter(), 57_088, None),
    (ROBERTA_BASE, CompacterPP(), 28_576, None),
    (ROBERTA_BASE, PHMAdapter(phm_dim=4), 243_264, None),
    (ROBERTA_BASE, PHMAdapter(phm_dim=8), 154_176, None),
    (ROBERTA_BASE, PHMAdapter(phm_dim=12), 175_680, None),
    (ROBERTA_BASE, Houlsby(), 903_744, None),
    (ROBERTA_BASE, Pfeiffer(), 451_872, None),
    (ROBERTA_BASE, LoRA(rank=1), 36_864, None),
    (ROBERTA_BASE, LoRA(rank=8), 294_912, None),
    (ROBERTA_BASE, FullFineTuning(), 124_645_632, None),
    (ROBERTA_BASE, HeadOnly(trains=NORMS), 38_400, None),
    # 12 x (q, k, v, o 4 x 768, feed-forward 3,072 + 768, two layer norms), embeddings' layer norm, pooler
    (ROBERTA_BASE, BitFit(), 12 * (4 * 768 + 3072 + 768 + 2 * 768) + 768 + 768, None),
    (BERT_BASE, KronA(), 36_864, "0.0337"),
    (BERT_BASE, Compacter(), 57_088, None),
    (BERT_BASE, CompacterPP(), 28_576, None),
    (BERT_BASE, HeadOnly(trains=NORMS), 38_400, None),
    (BERT_BASE, FullFineTuning(), 109_482_240, None),
    (ROBERTA_LARGE, KronA(), 98_304, None),
    (ROBERTA_LARGE, KronAB(modules_per_block=1), 73_728, None),
    (ROBERTA_LARGE, KronAB(), 147_456, None),
    (ROBERTA_LARGE, Compacter(), 152_128, None),
    (ROBERTA_LARGE, CompacterPP(), 76_096, None),
    (ROBERTA_LARGE, PHMAdapter(phm_dim=4), 843_264, None),
    (ROBERTA_LARGE, PHMAdapter(phm_dim=8), 493_056, None),
    (ROBERTA_LARGE, Houlsby(), 3_196_416, None),
    (ROBERTA_LARGE, Pfeiffer(), 1_598_208, None),
    (ROBERTA_LARGE, LoRA(rank=8), 786_432, None),
    (ROBERTA_LARGE, HeadOnly(trains=NORMS), 100_352, None),
]

BOTH_OF_BERT = (("query", "value"), ("attention_output", "ffn_output"))
QUERY, KEY, VALUE, OUTPUT = (rf".*attention\.{letter}_proj" for letter in "qkvo")
SURM_COUNTS = [  # Sehanobish et al.: two numbers a row of a weight, in 12 layers; behind both sublayers a bias more
    (BERT_BASE, SURM, ("query", "value"), 36_864),
    (BERT_BASE, SURM, ("query", "key", "value"), 55_296),
    (BERT_BASE, SURM, ("query", "key", "value", "attention_output"), 73_728),
    (BERT_BASE, SURMAdapter, ("attention_output", "ffn_output"), 55_296),
    (VIT_BASE, SURM, (QUERY, VALUE), 36_864),
    (VIT_BASE, SURM, (QUERY, KEY, VALUE), 55_296),
    (VIT_BASE, SURM, (QUERY, KEY, VALUE, OUTPUT), 73_728),
    (VIT_BASE, SURMAdapter, (OUTPUT, r".*mlp\.fc2"), 55_296),
]
PUBLISHED += [  # each structure on BERT, and each site with one structure; all others are of the matrix
    pytest.param(
        *(config, method(structure=structure, sites=sites), count, None),
        marks=[] if structure == "circulant" or sites in BOTH_OF_BERT else pytest.mark.matrix,
    )
    for config, method, sites, count in SURM_COUNTS
    for structure in ("circulant", "toeplitz", "kronecker", "ldr")
]
PUBLISHED += [
    (BERT_BASE, SURM(structure="ldr", rank=4), 24 * 2 * 4 * 768, None),
    (BERT_BASE, SURM(structure="toeplitz", variant="hadamard"), 36_864, None),
    (BERT_BASE, SURM(variant="single"), 24 * 768, None),
    (BERT_BASE, SURM(structure="toeplitz", variant="general"), 24 * (2 * 768 - 1), None),
    (BERT_BASE, SURM(structure="kronecker", a_shape=(8, 96)), 36_864, None),
    (BERT_BASE, SURM(variant="single", scale="trained"), 24 * 769, None),
]


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def without_weights(config):
    """A model that has shapes and no numbers."""
    return copy.deepcopy(built(config.model_type, config.hidden_size))


@cache
def built(model_type, width):
    """Each of the models once; a copy of one takes half the time."""
    with torch.device("meta"):
        return CLASSES[model_type](CONFIGS[model_type, width])


def name(value):
    return f"{value.model_type}-{value.hidden_size}" if isinstance(value, PreTrainedConfig) else str(value)[:60]


@pytest.mark.parametrize(("config", "method", "count", "per_cent"), PUBLISHED, ids=name)
def test_counts_are_the_published_ones(config, method, count, per_cent):
    model = without_weights(config)
    kronlit.inject(model, method)
    assert trained(model) == count
    if per_cent is not None:
        assert kronlit.trainable_report(model).splitlines()[-1].split()[-2:] == [f"{count:,}", per_cent]


@pytest.mark.parametrize(
    ("config", "method", "count"),
    [
        (ROBERTA_LARGE, AdaMix(), 811_392),
        (BERT_BASE, AdaMix(bottleneck_width=48, share_up=False), 894_528),
        (GPT2_MEDIUM, AdaMix(bottleneck_width=8, num_experts=8), 417_984),
        (GPT2_MEDIUM, AdaMixLoRA(), 393_216),
    ],
    ids=["RoBERTa-large", "BERT-base", "GPT-2 medium", "GPT-2 medium, LoRA"],
)
def test_a_mixture_collapses_to_the_published_count(config, method, count):
    model = without_weights(config)
    kronlit.inject(model, method)
    kronlit.collapse(model)
    assert trained(model) == count


def test_a_width_that_the_rule_does_not_divide_is_refused():
    with torch.device("meta"):
        model = RobertaModel(ROBERTA_LARGE)
    with pytest.raises(ValueError, match=r"`phm_dim`=12 must divide the map's shape \(32, 1024\)"):
        kronlit.inject(model, PHMAdapter(phm_dim=12))


def test_an_unknown_group_is_an_error_that_lists_the_groups():
    with pytest.raises(ValueError, match="'heads'; it may have head, layer_norm, bias, all"):
        kronlit.inject(RobertaModel(RobertaConfig(num_hidden_layers=1, vocab_size=9)), HeadOnly(trains=("heads",)))


# Dense layer, its bias, layer norm, and a bias for each word of RoBERTa-large
LM_HEAD = 1024 * 1024 + 1024 + 2 * 1024 + 50_265


@pytest.mark.parametrize(
    ("method", "count"),
    [
        (HeadOnly(), LM_HEAD),  # "1M" in the table
        (LiST(trains=()), 12_582_912),  # 24 layers, two adapters, 2 x 1024 x 128; "14M" with the head
        (LiST(), 12_582_912 + 1_101_913),
        (AdaMix(bottleneck_width=128, num_experts=1, trains=()), 24 * (2 * 1024 * 128 + 128 + 1024)),
    ],
    ids=repr,
)
def test_counts_of_masked_language_models_are_the_published_ones_without_the_vocabulary(method, count):
    with torch.device("meta"):
        model = RobertaForMaskedLM(ROBERTA_LARGE)
    kronlit.inject(model, method)
    assert trained(model) == count


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_is_no_part_of_a_head(tied):
    with torch.device("meta"):
        model = BertForMaskedLM(BertConfig(num_hidden_layers=1, tie_word_embeddings=tied))
    kronlit.inject(model, HeadOnly())
    assert not model.get_output_embeddings().weight.requires_grad
    assert model.cls.predictions.transform.dense.weight.requires_grad


def test_the_head_of_a_masked_bert_is_its_transform_and_its_bias():
    with torch.device("meta"):
        model = kronlit.inject(BertForMaskedLM(BERT_BASE), HeadOnly())
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = (
        "transform.dense.weight",
        "transform.dense.bias",
        "transform.LayerNorm.weight",
        "transform.LayerNorm.bias",
    )
    assert names == {f"cls.predictions.{name}" for name in (*layers, "bias")}


@pytest.mark.parametrize(
    "config",
    [
        PhiConfig(num_hidden_layers=1, hidden_size=64, intermediate_size=64, num_attention_heads=2, vocab_size=99),
        GPTJConfig(n_layer=1, n_embd=64, n_head=2, rotary_dim=8, vocab_size=99),
        LlamaConfig(num_hidden_layers=1, hidden_size=64, intermediate_size=64, num_attention_heads=2, vocab_size=99),
    ],
    ids=lambda config: config.model_type,
)
def test_a_layer_over_the_vocabulary_alone_is_no_head(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert not group(model, "head")
