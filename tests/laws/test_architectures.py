"""Sites are found in every architecture, by how its modules are named."""

import re
from functools import cache, partial
from itertools import product
from pathlib import Path

import pytest
import torch
from fixtures.architectures import CONFIGS, GROUPED, IMAGE, PLAIN, WELL_KNOWN, build, run
from torch import nn
from transformers import (
    AutoModel,
    CLIPVisionConfig,
    GPTNeoXConfig,
    GPTNeoXModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipConfig,
)

import kronlit
from kronlit import SURM, Houlsby, KronA, KronAB, LoRA
from kronlit.adapters import placements
from kronlit.adapters.families import NAMED
from kronlit.adapters.sites import SITES, matches
from kronlit.adapters.state import adapter_state
from kronlit.adapters.towers import TOWERS

METHODS = {
    "KronA": KronA,
    "LoRA": partial(LoRA, rank=2),
    "Houlsby": partial(Houlsby, reduction_factor=4),
    "SURM": SURM,
}
EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")
WITHOUT_ATTENTION = ("mamba", "mamba2", "falcon_mamba", "xlnet")


def has(model):
    """The sites of the model at which something can stand."""
    found = []
    for site in SITES:
        try:
            matches(model, site)
        except ValueError:
            continue
        found.append(site)
    return found


@cache
def sites_of(architecture):
    """The sites of the architecture, and the names of the modules at each."""
    model = build(architecture)
    return {site: matches(model, site) for site in has(model)}


def method_for(architecture, name):
    """The method at its default sites, or where the architecture lacks some of these, at the ones that it has."""
    own, there = METHODS[name]().sites, sites_of(architecture)
    instead = [site for site in ("ffn_input", "ffn_output") if site in there]
    return METHODS[name](sites=tuple(site for site in own if site in there) or tuple(instead))


def layer(name):
    """A module's name up to the last number in it."""
    return re.match(r".*\d+(?=\.)", name)[0]


def disturb(model):
    """Move what is added away from its start."""
    torch.manual_seed(1)
    added = [parameter for _, placement in placements(model) for parameter in placement.added()]
    for parameter in {id(parameter): parameter for parameter in added}.values():
        nn.init.normal_(parameter, std=0.3)
    return model


def crossed():
    """Each architecture with one of the methods in turn; all others are of the matrix."""
    cases = []
    for (number, architecture), (turn, name) in product(enumerate(CONFIGS), enumerate(METHODS)):
        marks = [] if number % len(METHODS) == turn else pytest.mark.matrix
        cases.append(pytest.param(architecture, name, marks=marks))
    return pytest.mark.parametrize(("architecture", "name"), cases)


@crossed()
def test_a_method_trains_merges_and_goes_on_in_every_architecture(architecture, name):
    method = method_for(architecture, name)
    model = build(architecture)
    names, plain = set(model.state_dict()), run(model)
    model = disturb(kronlit.inject(build(architecture), method))
    adapted = run(model)
    assert (adapted - plain).abs().max() > 1e-3
    # In evaluation, RWKV writes its state in place.
    run(model.train(architecture == "rwkv")).square().sum().backward()
    model.eval()
    for _, placement in placements(model):
        assert all(parameter.grad is not None for parameter in placement.added())

    other = kronlit.inject(build(architecture), method)  # as in a run that goes on
    state = adapter_state(model)
    assert sum(t.numel() for t in state.values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    other.load_state_dict(state, strict=False)
    with torch.no_grad():
        assert torch.equal(run(other), adapted)
        if name == "Houlsby":
            with pytest.raises(TypeError, match="cannot be merged"):
                kronlit.merge(model)
        else:
            kronlit.merge(model)
            torch.testing.assert_close(run(model), adapted, rtol=1e-4, atol=1e-4)
            assert set(model.state_dict()) == names


@pytest.mark.parametrize("architecture", [name for name in CONFIGS if "ffn" in sites_of(name)])
def test_beside_a_feed_forward_network_is_what_reads_its_input(architecture):
    model, seen = build(architecture), {}
    plain = run(model)

    def keep(key):
        return lambda module, args: seen.__setitem__(key, args[0])

    for name in matches(model, "ffn_input"):
        model.get_submodule(name).register_forward_pre_hook(keep(("first", layer(name))))
    disturb(kronlit.inject(model, KronAB(scale=1.0)))
    for name, placement in placements(model):
        placement.body.register_forward_pre_hook(keep(("body", layer(name))))
    assert (run(model) - plain).abs().max() > 1e-4
    layers = [number for part, number in seen if part == "body"]
    assert len(layers) == len(list(placements(model))) >= 2
    for number in layers:
        assert torch.equal(seen["body", number], seen["first", number])


@pytest.mark.parametrize("architecture", ["bloom", "mpt"])
def test_a_block_that_adds_the_residual_stream_gets_its_adapter_beside_the_rest(architecture):
    model = disturb(kronlit.inject(build(architecture), KronAB(scale=2.0)))
    _, placement = next(placements(model))
    x, residual = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    expected = placement.host(x, residual) + 2 * placement.body(x)
    torch.testing.assert_close(placement(x, residual), expected)


def test_a_block_of_which_a_norm_is_the_first_module_is_read_before_it():
    model = disturb(kronlit.inject(build("esm"), KronAB(sites=("ffn_before_norm",), scale=1.0)))
    seen = {}
    layer = model.esm.encoder.layer[1]
    layer.LayerNorm.register_forward_pre_hook(lambda module, args: seen.__setitem__("stream", args[0]))
    layer.output.body.register_forward_pre_hook(lambda module, args: seen.__setitem__("body", args[0]))
    run(model)
    assert torch.equal(seen["stream"], seen["body"])


def test_a_layer_that_all_layers_share_is_adapted_and_counted_once():
    model = build("albert")
    before = model.albert.encoder.albert_layer_groups[0].albert_layers[0].attention.query.weight.clone()
    kronlit.inject(model, LoRA(rank=2, alpha=2, trains=()))
    assert model.config.num_hidden_layers == 2
    assert kronlit.adapters.parameter_counts(model)[0] == 2 * (2 * 32 + 32 * 2)  # query and value, A and B of each
    (_, placement), _ = placements(disturb(model))
    delta = placement.matrix.b @ placement.matrix.a
    kronlit.merge(model)
    torch.testing.assert_close(
        model.albert.encoder.albert_layer_groups[0].albert_layers[0].attention.query.weight, before + delta
    )


@pytest.mark.parametrize("architecture", EXPERTS)
@pytest.mark.parametrize("site", ["ffn_input", "ffn_output", "ffn"])
def test_experts_that_are_one_parameter_are_refused_by_name(architecture, site):
    words = rf"^model\.layers\.0\.mlp\.experts holds .* so '{site}' is no site here. '{architecture}' has query, key"
    with pytest.raises(ValueError, match=words):
        kronlit.inject(build(architecture), LoRA(sites=(site,)))


def test_weights_of_attention_that_are_no_modules_are_refused_plainly():
    with pytest.raises(
        ValueError, match=r"no site 'query', as \S+rel_attn holds its weights .*; it has ffn_input, ffn_o"
    ):
        kronlit.inject(build("xlnet"), LoRA())


@pytest.mark.parametrize("architecture", [*CONFIGS, *WELL_KNOWN])
def test_each_layer_has_as_many_queries_as_keys_values_and_outputs(architecture):
    there = sites_of(architecture)
    counts = {site: len(names) for site, names in there.items() if not site.startswith(("ffn", "self"))}
    assert len(set(counts.values())) == (0 if architecture in WITHOUT_ATTENTION else 1)
    assert ("ffn_input" in there) == (architecture not in EXPERTS)


class Unheard(LlamaConfig):
    model_type = "unheard"


class UnheardFused(GPTNeoXConfig):
    model_type = "unheard-fused"


def test_an_architecture_that_came_out_today_has_its_familys_sites():
    model = LlamaForCausalLM(Unheard(**GROUPED)).eval()
    assert {site: matches(model, site)[0] for site in has(model)} == {
        "query": "model.layers.0.self_attn.q_proj",
        "key": "model.layers.0.self_attn.k_proj",
        "value": "model.layers.0.self_attn.v_proj",
        "attention_output": "model.layers.0.self_attn.o_proj",
        "self_attention_output": "model.layers.0.self_attn.o_proj",
        "ffn_input": "model.layers.0.mlp.gate_proj",
        "ffn_output": "model.layers.0.mlp.down_proj",
        "ffn": "model.layers.0.mlp",
    }
    assert len(list(placements(kronlit.inject(model, KronA())))) == 4


def test_how_an_unheard_of_architecture_is_cut_is_not_guessed():
    with pytest.raises(ValueError, match=r"which rows of 'unheard-fused' are query is not known here: name the module"):
        kronlit.inject(GPTNeoXModel(UnheardFused(**PLAIN)), KronA())


def test_sites_of_a_model_that_sees_are_those_of_its_language_model():
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**IMAGE), text_config=LlamaConfig(**GROUPED), image_token_index=98
    )
    model = LlavaForConditionalGeneration(config)
    for site in has(model):
        assert len(matches(model, site)) == (4 if site == "ffn_input" else 2)
        assert all(name.startswith("model.language_model.layers.") for name in matches(model, site))
    assert any("vision_tower" in name and name.endswith("q_proj") for name, _ in model.named_modules())


def test_sites_of_a_whole_siglip_are_those_of_its_vision_model():
    model = AutoModel.from_config(SiglipConfig(vision_config=IMAGE, text_config=PLAIN))
    for site in has(model):
        assert [name.split(".layers")[0] for name in matches(model, site)] == ["vision_model.encoder"] * 2


def test_which_of_two_models_is_meant_is_not_guessed():
    config = SiglipConfig(vision_config=IMAGE, text_config=PLAIN)
    config.__class__ = type("Paired", (SiglipConfig,), {"model_type": "paired"})
    with torch.device("meta"):
        model = AutoModel.from_config(SiglipConfig(vision_config=IMAGE, text_config=PLAIN))
    model.config = config
    with pytest.raises(
        ValueError, match=r"'paired' has no site 'query'; it has no site of its own, as it is made of sev"
    ):
        kronlit.inject(model, KronA())


def test_every_architecture_that_is_named_is_under_test():
    tested = {name.split()[0] for name in (*CONFIGS, *WELL_KNOWN)}
    assert set(NAMED) <= tested
    assert {"clip", "siglip"} <= set(TOWERS) & tested


# --- the page that lists them ---

PAGE = Path(__file__).parents[2] / "docs/architectures.md"
COLUMNS = (("query", "key", "value"), ("attention_output",), ("ffn_input",), ("ffn_output",), ("ffn",))


def row(architecture):
    """A row of the table: the last part of the names of the modules at each site, several in one cell."""
    there = sites_of(architecture)
    cells = []
    for group in COLUMNS:
        names = [name for site in group if site in there for name in there[site]]
        cells.append(" ".join(f"`{end}`" for end in dict.fromkeys(name.split(".")[-1] for name in names)) or "none")
    return f"| {architecture.split()[0]} | " + " | ".join(cells) + " |"


def test_the_page_lists_the_architectures_and_their_modules():
    rows = list(dict.fromkeys(row(name) for name in sorted(CONFIGS | WELL_KNOWN)))
    table = PAGE.read_text().split("## Tested")[1].split("## One module")[0]
    found = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert found == rows, "docs/architectures.md should have\n" + "\n".join(rows)
