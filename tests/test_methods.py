"""Published parameter counts, on models of the true size that have no weights."""

import pytest
import torch
from transformers import RobertaConfig, RobertaModel, T5Config, T5ForConditionalGeneration

import kronlit
from kronlit import BitFit, FullFineTuning, HeadOnly, KronA, LoRA

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
PUBLISHED = [
    # Edalati et al., table 1 (0.07 %): with the layer norms, 158,208 of 222,882,048
    (T5_BASE, KronA(), 110_592),
    (T5_BASE, KronA(trains=("layer_norm",)), 158_208),
    (T5_BASE, KronA(a_shape=(2, 384), trains=("layer_norm",)), 158_208),
    (T5_BASE, LoRA(rank=1), 110_592),
    (T5_BASE, LoRA(rank=1, trains=("layer_norm",)), 158_208),
    # Mahabadi et al., table 1: BitFit 0.126 %, with the language-model head's bias; full fine-tuning
    (T5_BASE, BitFit(), 282_468),
    (T5_BASE, FullFineTuning(), 222_882_048),
    (T5_BASE, HeadOnly(), 0),
    (ROBERTA_BASE, KronA(), 36_864),
    (ROBERTA_BASE, LoRA(rank=1), 36_864),
    (ROBERTA_BASE, LoRA(rank=8), 294_912),
    (ROBERTA_BASE, FullFineTuning(), 124_645_632),
    # 12 x (q, k, v, o 4 x 768, feed-forward 3,072 + 768, two layer norms), embeddings' layer norm, pooler
    (ROBERTA_BASE, BitFit(), 12 * (4 * 768 + 3072 + 768 + 2 * 768) + 768 + 768),
    (ROBERTA_LARGE, KronA(), 98_304),
    (ROBERTA_LARGE, LoRA(rank=8), 786_432),
]


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("config", "method", "count"), PUBLISHED, ids=lambda value: str(value)[:40])
def test_counts_are_the_published_ones(config, method, count):
    with torch.device("meta"):
        model = (T5ForConditionalGeneration if config is T5_BASE else RobertaModel)(config)
    assert trained(kronlit.inject(model, method)) == count


def test_the_percentage_of_krona_is_the_published_one():
    with torch.device("meta"):
        model = T5ForConditionalGeneration(T5_BASE)
    report = kronlit.trainable_report(kronlit.inject(model, KronA(trains=("layer_norm",))))
    assert report.splitlines()[-1].split()[-1] == "0.0710"


def test_an_unknown_group_is_an_error_that_lists_the_groups():
    with pytest.raises(ValueError, match="'heads'; it may have head, layer_norm, bias, all"):
        kronlit.inject(RobertaModel(RobertaConfig(num_hidden_layers=1, vocab_size=9)), HeadOnly(trains=("heads",)))
