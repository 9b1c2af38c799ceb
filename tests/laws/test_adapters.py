"""Laws of every placement in every architecture, and the oracle of PEFT."""

import copy
import re
from itertools import product

import peft
import pytest
import torch
from fixtures.methods import METHODS
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    CLIPConfig,
    CLIPVisionConfig,
    DebertaV2Config,
    DeiTConfig,
    DeiTForImageClassification,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    MPNetConfig,
    MT5Config,
    OpenAIGPTConfig,
    RobertaConfig,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    XLMRobertaConfig,
)

import kronlit
from kronlit import (
    AdaMix,
    AdaMixLoRA,
    BitFit,
    KronA,
    LoRA,
)
from kronlit.adapters import Delta, Insertion, Placement, inject, placements
from kronlit.adapters.addition import Addition
from kronlit.adapters.sites import matches
from kronlit.adapters.state import adapter_state
from kronlit.structured import Kronecker

BERT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 99}
T5 = {
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 99,
    "decoder_start_token_id": 0,
}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 1}
VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 8,
    "patch_size": 4,
}
TEXT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 99,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "bert": BertConfig(**BERT),
    "roberta": RobertaConfig(**BERT),
    "xlm-roberta": XLMRobertaConfig(**BERT),
    "camembert": CamembertConfig(**BERT),
    "electra": ElectraConfig(**BERT, embedding_size=16),
    "deberta-v2": DebertaV2Config(**BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True),
    "distilbert": DistilBertConfig(dim=24, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=99),
    "mpnet": MPNetConfig(**BERT),
    "t5": T5Config(**T5),
    "t5 gated": T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mt5": MT5Config(**T5),
    "gpt2": GPT2Config(**GPT2),
    "openai-gpt": OpenAIGPTConfig(**GPT2),
    "vit": ViTConfig(**VIT),
    "deit": DeiTConfig(**VIT),
    "dinov2": Dinov2Config(**VIT | {"mlp_ratio": 2}),
    "dinov2 gated": Dinov2Config(**VIT | {"mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2_with_registers": Dinov2WithRegistersConfig(**VIT | {"mlp_ratio": 2}),
    "clip": CLIPConfig(vision_config=VIT, text_config=TEXT),
    "clip_vision_model": CLIPVisionConfig(**VIT),
}
VISION = ["vit", "deit", "dinov2", "dinov2 gated", "dinov2_with_registers", "clip", "clip_vision_model"]
NAMES = [name for name in METHODS if name != "PromptTuning"]  # a soft prompt has laws of its own
# How far outputs, which are of order 1, may be from the model's own before any training
START = {
    "AdaMix": 0.1,
    "AdaMix, unshared": 0.1,
    "LiST": 0.1,
    "Houlsby": 0.1,
    "Pfeiffer": 0.1,
    "AdapterDrop": 0.1,
    "PHMAdapter": 0.5,
    "Compacter": 1e-3,
    "CompacterPP": 1e-3,
}
UNUSED = ("post_layernorm", "embeddings")  # CLIP's pooler and DINOv2's mask token: IntrinsicSAID moves all there is
MOVED = ("KronABRes", "LowRankAdapter", "C3A")  # by the papers' own initialisation


def merges(name):
    """Whether all that a method adds is a change of weights; `None` if it adds no placement."""
    with torch.device("meta"):
        model = kronlit.inject(AutoModelForSequenceClassification.from_config(CONFIGS["bert"]), METHODS[name]())
    blockers = [placement.merge_blocker for _, placement in placements(model)]
    return not any(blockers) if blockers else None


MERGEABLE = [*(name for name in NAMES if merges(name)), "IntrinsicSAID"]
ADAPTERS = [name for name in NAMES if merges(name) is False and name != "BitFit"]


def crossed(names):
    """Each method on BERT and each architecture with the first of the methods; all others are of the matrix."""

    def case(architecture, name):
        often = architecture == "bert" or name == names[0]
        return pytest.param(architecture, name, marks=[] if often else pytest.mark.matrix)

    return pytest.mark.parametrize(("architecture", "method"), [case(*pair) for pair in product(CONFIGS, names)])


def build(architecture):
    config = CONFIGS[architecture]
    if "t5" in architecture:
        model = T5ForConditionalGeneration(config) if architecture != "mt5" else AutoModel.from_config(config)
    elif "gpt" in architecture:
        model = AutoModelForCausalLM.from_config(config)
    elif architecture == "deit":
        model = DeiTForImageClassification(config)  # AutoModelForImageClassification reads of which DeiT from files
    elif architecture in VISION:
        auto = AutoModel if architecture == "clip_vision_model" else AutoModelForImageClassification
        model = auto.from_config(config)
    else:
        model = AutoModelForSequenceClassification.from_config(config)
    return model.eval()


def run(model):
    if "pixel_values" in model.main_input_name:
        pixels = torch.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=model.dtype).reshape(2, 3, 8, 8).sin()
        output = model(pixel_values=pixels)
        return output.logits if hasattr(output, "logits") else output.last_hidden_state
    ids = torch.arange(3, 17).reshape(2, 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :3]
    output = model(**inputs)
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def added(model):
    """Names of the parameters that are no longer, or not yet, those of a plain model."""
    new = {id(p) for module in model.modules() if isinstance(module, Addition) for p in module.added()}
    return [name for name, p in model.named_parameters() if id(p) in new]


def disturb(model):
    """Move what is added away from its zero start."""
    for name in added(model):
        nn.init.normal_(model.get_parameter(name), std=0.3)
    return model


@crossed(NAMES)
def test_nothing_changes_at_the_start_but_what_the_papers_change(architecture, method):
    model = build(architecture).double()
    before = run(model)
    change = (run(kronlit.inject(model, METHODS[method]()).double()) - before).abs().max()
    if method in MOVED:
        assert change > 1e-6
    else:
        assert change <= START.get(method, 1e-7)
        assert change > 0 or method not in START


@crossed(MERGEABLE)
def test_merging_gives_the_same_outputs_and_the_models_own_class(architecture, method):
    model = build(architecture)
    names = set(model.state_dict())
    disturb(kronlit.inject(model, METHODS[method]())).double()
    adapted = run(model)
    assert (adapted - run(build(architecture).double())).abs().max() > 1e-3
    kronlit.merge(model)
    torch.testing.assert_close(run(model), adapted, rtol=1e-5, atol=1e-5)  # merged in float32
    assert set(model.state_dict()) == names
    merged = run(model)
    kronlit.merge(model)
    assert torch.equal(run(model), merged)


@crossed(ADAPTERS)
def test_what_cannot_be_merged_is_refused_with_the_reason_and_stays(architecture, method):
    model = disturb(kronlit.inject(build(architecture), METHODS[method]()))
    before = run(model)
    with pytest.raises(TypeError, match=r"cannot be merged: (an adapter behind|what is parallel).* Keep the adapter"):
        kronlit.merge(model)
    assert torch.equal(run(model), before)


@crossed(NAMES)
def test_a_checkpoint_holds_all_that_was_trained_once_and_nothing_else(architecture, method):
    def fresh():
        torch.manual_seed(7)
        return kronlit.inject(build(architecture), METHODS[method]())

    model = disturb(fresh())
    for _, parameter in model.named_parameters():
        if parameter.requires_grad and METHODS[method]().trains != ("all",):
            nn.init.normal_(parameter, std=0.3)
    state = adapter_state(model)
    starts = re.compile(r"\.start\d+_\d+$")  # QuanTA's T₀
    kept = sum(buffer.numel() for name, buffer in model.named_buffers() if starts.search(name))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(t.numel() for t in state.values()) == trained + kept
    other = fresh()
    other.load_state_dict(state, strict=False)
    assert torch.equal(run(other), run(model))


@crossed([*MERGEABLE, *ADAPTERS])
def test_only_what_is_added_and_what_the_method_names_gets_a_gradient(architecture, method):
    model = disturb(kronlit.inject(build(architecture), METHODS[method]()))
    run(model).square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    groups = METHODS[method]().trains
    body = {id(p) for p in (model.vision_model if architecture == "clip" else model.base_model).parameters()}
    those = set(added(model))
    for name, parameter in model.named_parameters():
        new = name in those
        norm = re.search(r"norm|\.ln_", name.lower()) is not None
        own = ("layer_norm" in groups and norm) or ("head" in groups and id(parameter) not in body)
        assert parameter.requires_grad == (new or own), name
        assert not new or name in trained or name.split(".parametrizations")[0].endswith(UNUSED), name


# The names that Hugging Face files have, and that versions of Transformers before 5 have in memory
OLDER = {
    "query": "{}.encoder.layer.1.attention.attention.query",
    "key": "{}.encoder.layer.1.attention.attention.key",
    "value": "{}.encoder.layer.1.attention.attention.value",
    "attention_output": "{}.encoder.layer.1.attention.output.dense",
    "self_attention_output": "{}.encoder.layer.1.attention.output.dense",
    "ffn_input": "{}.encoder.layer.1.intermediate.dense",
    "ffn_output": "{}.encoder.layer.1.output.dense",
}
GATED = {"ffn_input": "{}.encoder.layer.1.mlp.weights_in", "ffn_output": "{}.encoder.layer.1.mlp.weights_out"}
PLAIN = {
    "ffn_input": "{}.encoder.layer.1.mlp.fc1",
    "ffn_output": "{}.encoder.layer.1.mlp.fc2",
    "ffn": "{}.encoder.layer.1.mlp",
}
NEWER = {
    "query": "{}.attention.q_proj",
    "key": "{}.attention.k_proj",
    "value": "{}.attention.v_proj",
    "attention_output": "{}.attention.o_proj",
    "self_attention_output": "{}.attention.o_proj",
    "ffn_input": "{}.mlp.fc1",
    "ffn_output": "{}.mlp.fc2",
    "ffn": "{}.mlp",
}
CLIP = {
    "query": "{}.self_attn.q_proj",
    "key": "{}.self_attn.k_proj",
    "value": "{}.self_attn.v_proj",
    "attention_output": "{}.self_attn.out_proj",
    "self_attention_output": "{}.self_attn.out_proj",
    "ffn_input": "{}.mlp.fc1",
    "ffn_output": "{}.mlp.fc2",
    "ffn": "{}.mlp",
}


class Named(nn.Module):
    """A model of an architecture, as far as names go."""

    def __init__(self, model_type, names):
        super().__init__()
        self.config = type("Config", (), {"model_type": model_type})
        self.names = names

    def named_modules(self, *args, **kwargs):
        return [(name, nn.Linear(1, 1)) for name in self.names]


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("vit", OLDER),
        ("deit", OLDER),
        ("dinov2", OLDER | PLAIN),
        ("dinov2", OLDER | GATED),
        ("dinov2_with_registers", OLDER | PLAIN),
    ],
)
def test_sites_are_found_under_the_older_names_of_files(architecture, names):
    prefix = architecture.replace("-", "_")
    model = Named(architecture, [name.format(prefix) for name in dict.fromkeys(names.values())])
    assert {site: matches(model, site) for site in names} == {site: [n.format(prefix)] for site, n in names.items()}


@pytest.mark.parametrize(
    ("architecture", "layers", "names"),
    [
        ("vit", "vit.layers.{}", NEWER),
        ("deit", "deit.layers.{}", NEWER),
        ("clip", "vision_model.encoder.layers.{}", CLIP),
    ],
)
def test_sites_are_those_modules_of_each_layer_and_no_others(architecture, layers, names):
    model = build(architecture)
    for site, name in names.items():
        assert matches(model, site) == [name.format(layers.format(number)) for number in (0, 1)]


def test_sites_of_a_whole_clip_are_those_of_its_vision_model():
    with torch.device("meta"):
        model = AutoModel.from_config(CONFIGS["clip"])
    for site in CLIP:
        found = matches(model, site)
        assert len(found) == 2
        assert all(name.startswith("vision_model.") for name in found)


def test_query_and_value_of_t5_are_those_of_every_attention():
    model = kronlit.inject(build("t5"), KronA())
    names = [name for name, _ in placements(model)]
    # 2 encoder and 2 decoder layers: 2 + 2 + 2 attention modules, query and value of each
    assert len(names) == 12
    assert sum("EncDecAttention" in name for name in names) == 4


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_krona_is_peft_lokr_where_peft_can_say_it(scale):
    model = build("bert")
    config = peft.LoKrConfig(r=8, alpha=8 * scale, decompose_factor=4, target_modules=["query", "value"])
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    ours = kronlit.inject(model, KronA(a_shape=(4, 4), scale=scale))
    for name, placement in placements(disturb(ours)):
        layer = theirs.get_submodule(f"base_model.model.{name}")
        layer.lokr_w1["default"].data.copy_(placement.matrix.a.data)
        layer.lokr_w2["default"].data.copy_(placement.matrix.b.data)
    torch.testing.assert_close(run(ours), run(theirs))


def test_lora_is_peft_lora():
    model = build("roberta")
    config = peft.LoraConfig(r=3, lora_alpha=12, target_modules=["query", "value"])
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    ours = kronlit.inject(model, LoRA(rank=3, alpha=12))
    for name, placement in placements(disturb(ours)):
        layer = theirs.get_submodule(f"base_model.model.{name}")
        layer.lora_A["default"].weight.data.copy_(placement.matrix.a.data)
        layer.lora_B["default"].weight.data.copy_(placement.matrix.b.data)
    torch.testing.assert_close(run(ours), run(theirs))


def test_the_papers_shape_acts_on_rows_from_the_left():
    # Equation 3, Y = XW + s X (A_k ⊗ B_k), in the paper's order of factors
    model = kronlit.inject(build("bert"), KronA(a_shape=(12, 2), scale=2.0))
    _, placement = next(placements(disturb(model)))
    a_k, b_k = placement.matrix.a.T, placement.matrix.b.T
    assert (tuple(a_k.shape), tuple(b_k.shape)) == ((12, 2), (2, 12))
    x = torch.randn(5, 24)
    torch.testing.assert_close(placement(x), placement.host(x) + 2.0 * x @ torch.kron(a_k, b_k))


def test_merging_rounds_once_in_a_bfloat16_model():
    host = nn.Linear(16, 16).bfloat16()
    placement = Delta(host, 16, 16, Kronecker, scale=0.01)
    nn.init.normal_(placement.matrix.b)
    expected = (host.weight.float() + 0.01 * torch.kron(placement.matrix.a, placement.matrix.b)).bfloat16()
    assert torch.equal(placement.merge().weight, expected)


@pytest.mark.parametrize(
    ("architecture", "site", "words"),
    [
        (
            "t5",
            "qury",
            "'t5' has no site 'qury'; it has query, key, value, attention_output, self_attention_output, ffn_input",
        ),
        ("bert", r".*\.no_such", r"'bert' has no site '\.\*"),
        ("bert", "(", "neither a known site nor a regular expression"),
    ],
)
def test_a_site_that_matches_nothing_is_an_error_that_lists_what_there_is(architecture, site, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(") if site == "(" else words):
        kronlit.inject(build(architecture), KronA(sites=(site,)))


def test_an_architecture_that_the_table_lacks_is_reached_by_pattern():
    model = nn.ModuleDict({"first": nn.Linear(8, 8), "second": nn.Linear(8, 8)})
    with pytest.raises(ValueError, match=r"its linear modules are first, second"):
        inject(model, [Insertion(("query",), lambda *widths: Delta(*widths, matrix=Kronecker))])
    inject(model, [Insertion(("fir.*",), lambda *widths: Delta(*widths, matrix=Kronecker))])
    assert [name for name, _ in placements(model)] == ["first"]


def test_a_shape_that_does_not_divide_names_the_module():
    with pytest.raises(ValueError, match=r"layer\.0\.attention\.self\.query: `a_shape`=\(7, 5\) must divide"):
        kronlit.inject(build("bert"), KronA(a_shape=(5, 7)))


def test_a_second_method_is_refused():
    with pytest.raises(ValueError, match="already holds adapters"):
        kronlit.inject(kronlit.inject(build("bert"), KronA()), LoRA())


def test_an_added_bias_cannot_be_merged_into_a_model_without_biases():
    with pytest.raises(TypeError, match=r"cannot be merged: a bias was added to a Linear"):
        kronlit.merge(kronlit.inject(build("t5"), BitFit()))


def test_a_placement_shows_what_hugging_face_code_reads_on_its_host():
    host = nn.Linear(6, 4)
    placement = Placement(host, 6, 4)
    assert placement.weight is host.weight
    assert placement.bias is host.bias
    assert (placement.in_features, placement.out_features) == (6, 4)


# --- several projections in one module ---


def test_query_and_value_of_gpt2_are_changed_by_columns_and_key_is_not():
    model = disturb(kronlit.inject(build("gpt2"), KronA(scale=3.0)))
    attention = model.transformer.h[1].attn
    weight, placement = attention.c_attn.host.weight.clone(), attention.c_attn
    assert [name for name, _ in placements(model)] == [f"transformer.h.{i}.attn.c_attn" for i in range(2)]
    # Conv1D holds (in, 3 * 24): query, key, value side by side
    for columns, part in ((slice(0, 24), placement.matrix.query), (slice(48, 72), placement.matrix.value)):
        weight[:, columns] += 3 * torch.kron(part.a, part.b).T
    x = torch.randn(2, 5, 24)
    expected = x @ weight + placement.bias
    torch.testing.assert_close(placement(x), expected)
    torch.testing.assert_close(placement(x)[..., 24:48], placement.host(x)[..., 24:48])
    kronlit.merge(model)
    torch.testing.assert_close(model.transformer.h[1].attn.c_attn.weight, weight)


def test_lora_on_gpt2_is_peft_lora_on_the_fused_module():
    # PEFT's one factor A of rank 3 for all of c_attn is ours for each part, its B theirs one above another
    model = build("gpt2")
    config = peft.LoraConfig(r=3, lora_alpha=12, target_modules=["c_attn"], fan_in_fan_out=True)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    ours = kronlit.inject(model, LoRA(rank=3, alpha=12, sites=("query", "key", "value")))
    for name, placement in placements(disturb(ours)):
        parts = [placement.matrix.query, placement.matrix.key, placement.matrix.value]
        for part in parts:
            part.a.data.copy_(parts[0].a.data)
        layer = theirs.get_submodule(f"base_model.model.{name}")
        layer.lora_A["default"].weight.data.copy_(parts[0].a.data)
        layer.lora_B["default"].weight.data.copy_(torch.cat([part.b.data for part in parts]))
    torch.testing.assert_close(run(ours), run(theirs))
    torch.testing.assert_close(run(ours), run(disturbed_alike(ours)))


def disturbed_alike(model):
    """The model merged by PEFT's way of it: a plain GPT-2 whose weights were changed by hand."""
    plain = build("gpt2")
    state = {name.replace(".host", ""): tensor for name, tensor in model.state_dict().items() if ".matrix." not in name}
    plain.load_state_dict(state)
    for name, placement in placements(model):
        delta = torch.cat([part.b @ part.a for part in placement.matrix.children()])
        plain.get_submodule(name).weight.data += 4 * delta.T
    return plain


def test_one_part_alone_is_changed():
    model = disturb(kronlit.inject(build("gpt2"), LoRA(rank=2, sites=("value",))))
    placement, x = model.transformer.h[0].attn.c_attn, torch.randn(3, 24)
    change = placement(x) - placement.host(x)
    assert change[:, :48].count_nonzero() == 0
    torch.testing.assert_close(change[:, 48:], x @ (placement.matrix.value.b @ placement.matrix.value.a).T)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            AdaMix(sites=("query", "value")),
            "c_attn: query, value are parts of one module here, and only a change",
        ),
        (LoRA(sites=("query", r".*\.c_attn")), r"name this module and parts of it"),
        (LoRA(sites=("query",), dropout=1.0), "`dropout`=1.0 must be a share"),
    ],
)
def test_what_cannot_stand_on_a_part_says_so(method, words):
    with pytest.raises(ValueError, match=words):
        kronlit.inject(build("gpt2"), method)


@pytest.mark.parametrize("method", [LoRA(rank=2, dropout=0.5), AdaMixLoRA(rank=2, num_experts=1, dropout=0.5)])
def test_dropout_hides_the_input_from_the_factors_alone_and_in_training_alone(method):
    model = disturb(kronlit.inject(build("bert"), method))
    placement, x = model.bert.encoder.layer[0].attention.self.query, torch.randn(200, 24)
    whole = placement(x)
    torch.manual_seed(1)
    seen = nn.functional.dropout(x, 0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(
        placement.train()(x), placement.host(x) + placement.scale * seen @ placement.matrix.to_dense().T
    )
    torch.testing.assert_close(placement.eval()(x), whole)


def test_the_report_counts_what_is_trained_over_the_model_as_it_came():
    model = build("bert")
    total = sum(p.numel() for p in model.parameters())
    report = kronlit.trainable_report(kronlit.inject(model, KronA())).splitlines()
    # 2 layers x query, value x (A 4 x 6, B 6 x 4); the classifier 2 x 24 + 2
    trained = 2 * 2 * (24 + 24) + 50
    assert report[-1].split()[-2:] == [f"{trained}", f"{100 * trained / total:.4f}"]
    assert f"{total:,}" in report[-1]
    assert any("query.matrix.a" in line and "4 x 6" in line for line in report)
