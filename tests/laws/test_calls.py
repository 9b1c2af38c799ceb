"""Sites that a model does not call, and blocks that a placement cannot stand beside."""

import copy
import sys

import pytest
import torch
import transformers
from torch import nn

from kronlit import BitFit, HeadOnly, Houlsby, KronA, KronAB, LoRA, inject
from kronlit.adapters import Insertion
from kronlit.adapters import inject as insert
from kronlit.adapters.calls import first_calls, is_passed_over

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VISION = {"vision_config": SMALL | {"image_size": 16, "patch_size": 4}}
TEXT = {"text_config": SMALL | {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}}
MAMBA = {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 4, "vocab_size": 99}
CONVNEXT = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
SWITCH = {"d_model": 24, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
SWITCH |= {
    "num_experts": 4,
    "vocab_size": 99,
    "decoder_start_token_id": 0,
    "expert_capacity": 2,
    "num_sparse_encoder_layers": 2,
}
MOBILE = SMALL | {"vocab_size": 99, "embedding_size": 12, "intra_bottleneck_size": 24}
BART = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 99}
BART |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 32}


def model_of(name, architecture, config):
    torch.manual_seed(0)
    return getattr(transformers, name)(transformers.CONFIG_MAPPING[architecture](**config))


MODELS = {
    "mamba": lambda: model_of("MambaForCausalLM", "mamba", MAMBA),
    "falcon_mamba": lambda: model_of("FalconMambaForCausalLM", "falcon_mamba", MAMBA),
    "mobilebert": lambda: model_of("MobileBertForMaskedLM", "mobilebert", MOBILE),
    "siglip": lambda: model_of("SiglipForImageClassification", "siglip", VISION | TEXT),
    "convnext": lambda: model_of("ConvNextForImageClassification", "convnext", CONVNEXT),
    "bart": lambda: model_of("BartForSequenceClassification", "bart", BART),
    "switch": lambda: model_of("SwitchTransformersForConditionalGeneration", "switch_transformers", SWITCH),
    "bert": lambda: model_of("BertModel", "bert", SMALL | {"vocab_size": 99}),
}


class TorchAttention(nn.Module):
    """PyTorch's own attention, which reads its output projection's weight, in a model of text."""

    def __init__(self):
        super().__init__()
        self.config = transformers.PretrainedConfig()
        self.embedding, self.attention = nn.Embedding(99, 24), nn.MultiheadAttention(24, 2, batch_first=True)

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        return self.attention(x, x, x)[0]


@pytest.mark.parametrize(
    ("make", "site", "name"),
    [
        (MODELS["mamba"], r".*(in|dt)_proj", r"backbone\.layers\.0\.mixer\.dt_proj"),
        (MODELS["falcon_mamba"], r".*dt_proj", r"backbone\.layers\.0\.mixer\.dt_proj"),
        (MODELS["mobilebert"], r"cls.*(dense|decoder)", r"cls\.predictions\.dense"),
        (MODELS["siglip"], r".*out_proj", r"vision_model\.head\.attention\.out_proj"),
        (TorchAttention, r"attention\.out_proj", r"attention\.out_proj"),
    ],
    ids=["mamba", "falcon_mamba", "mobilebert", "siglip", "torch"],
)
def test_a_site_whose_weight_is_read_but_that_is_not_called_is_refused_by_name(make, site, name):
    model = make()
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=rf"^{name}: a \w+ does not call this .*leave it out of `sites`"):
        inject(model, LoRA(rank=2, sites=(site,)))
    assert [name for name, _ in model.named_modules()] == names


@pytest.mark.parametrize(
    ("make", "site"),
    [
        (MODELS["mamba"], r".*(in|x|out)_proj"),
        (MODELS["bart"], r".*(q_proj|fc1)"),
        (MODELS["switch"], r".*experts.*wi"),
        (MODELS["siglip"], r".*layers.*(q_proj|out_proj)"),
        (MODELS["bert"], r".*dense"),
    ],
    ids=["mamba", "bart", "switch", "siglip", "bert"],
)
def test_what_is_called_or_could_be_is_taken(make, site):
    model = make()
    state, training = torch.get_rng_state(), [module.training for module in model.modules()]
    calls = first_calls(model)
    assert calls
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == training
    assert not any(module._forward_hooks for module in model.modules())
    inject(model, LoRA(rank=2, sites=(site,)))
    assert any(".matrix." in name for name, _ in model.named_parameters())


def test_an_expert_that_is_not_chosen_is_not_passed_over():
    model = MODELS["switch"]()
    calls = first_calls(model)
    experts = [name for name, _ in model.named_modules() if name.endswith(".wi") and "expert" in name]
    assert {name in calls for name in experts} == {True, False}  # eight tokens cannot reach them all
    assert not any(is_passed_over(name, model, calls) for name in experts)


@pytest.mark.parametrize(
    ("make", "site", "name"),
    [
        (MODELS["convnext"], r".*layers\.0", "ConvNextLayer is no linear module"),
        (MODELS["mamba"], r".*mixer", "a MambaMixer is none: name a feed-forward network"),
        (MODELS["bert"], r".*attention\.self", "a BertSelfAttention is none"),
        (MODELS["bert"], r"encoder", "a BertEncoder is none"),
        (MODELS["bert"], r"embeddings", "a BertEmbeddings is none"),
        (TorchAttention, r"attention", "a TorchAttention has no width"),
    ],
    ids=["convnext", "mixer", "attention", "encoder", "embeddings", "no config"],
)
def test_a_block_that_nothing_can_stand_beside_is_refused_in_a_line(make, site, name):
    with pytest.raises(ValueError, match=name):
        inject(make(), KronAB(sites=(site,)))


@pytest.mark.parametrize("site", [r".*\d\.output", r".*intermediate\.dense"])
def test_a_block_by_regular_expression_is_taken_where_it_suits(site):
    model = MODELS["bert"]()
    inject(model, KronAB(sites=(site,))).eval()
    model(torch.arange(5)[None])


def test_a_module_without_parameters_is_refused_in_a_line():
    with pytest.raises(ValueError, match="goes on linear modules, not on a Dropout"):
        inject(MODELS["bert"](), Houlsby(sites=(r".*dropout",)))
    inject(MODELS["bert"](), KronAB(sites=(r".*output\.dropout",)))


def test_the_sites_of_the_table_cost_no_pass(monkeypatch):
    monkeypatch.setattr(sys.modules["kronlit.adapters.inject"], "first_calls", lambda model: pytest.fail("a pass"))
    model = model_of("BertForSequenceClassification", "bert", SMALL | {"vocab_size": 99})
    for method in (KronA(), KronAB(), HeadOnly()):
        inject(copy.deepcopy(model), method)


def test_many_insertions_cost_one_pass(monkeypatch):
    passes = []
    monkeypatch.setattr(
        sys.modules["kronlit.adapters.inject"], "first_calls", lambda model: passes.append(1) or first_calls(model)
    )
    sites = [r".*query", r".*value", r".*key"]
    insert(MODELS["bert"](), [Insertion((site,), LoRA().insertions()[0].placement) for site in sites])
    assert passes == [1]


def test_two_insertions_stand_one_in_the_other_and_not_on_one_module():
    model, outer, inner = MODELS["bert"](), KronAB(sites=(r".*\d\.output",)), LoRA(sites=(r".*output\.dense",))
    with pytest.raises(ValueError, match="`sites` of two insertions name this module"):
        insert(model, [*inner.insertions(), *inner.insertions()])
    insert(model, [*outer.insertions(), *inner.insertions()])
    model.eval()(torch.arange(5)[None])
    assert model.encoder.layer[0].output.host.dense.matrix.in_features == 48


def test_bitfit_adds_no_bias_that_nothing_calls():
    model = inject(MODELS["mobilebert"](), BitFit())
    names = {name for name, module in model.named_modules() if type(module).__name__ == "Bias"}
    assert not any(name.startswith("cls.predictions.") for name in names)
