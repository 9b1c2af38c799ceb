"""What PEFT has the very map of goes to PEFT and comes back: each opened by the other, with the same outputs."""

from functools import partial

import pytest
import torch
from peft import C3AConfig, HiraConfig, LoraConfig, OFTConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import kronlit
from kronlit import OFT, SURM, DoRA, HiRA, KronA, LoRA, Structured
from kronlit.adapters import Delta, Hadamard, placements
from kronlit.adapters.inject import Insertion, inject
from kronlit.exchange.init_adapter import init_adapter
from kronlit.exchange.peft.write import to_peft
from kronlit.structured import (
    BlockCirculant,
    GatedKroneckers,
    KhatriRao,
    Kronecker,
    KroneckerSum,
    LowRank,
    LowRankHadamard,
    Monarch,
    StructuredLinear,
    TensorCircuit,
)


def base(folder):
    """The model of a folder, with weights so large that a change of one shows."""
    auto = AutoModelForCausalLM if "gpt2" in str(folder) else AutoModelForSequenceClassification
    model = auto.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim > 1 and auto is AutoModelForSequenceClassification else 1)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 18).reshape(2, 7)).logits


def moved(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "classifier" not in name:
                parameter.add_(torch.randn_like(parameter) * (5 if "kernel" in name else 0.2))
    return model.eval()


SITES = ("query", "ffn_input")
WRITTEN = {
    "rsLoRA": (LoRA(rank=4, alpha=6.0, rank_stabilized=True), "LORA"),
    "CDKA": (Structured(matrix=partial(KroneckerSum, num_components=2), sites=SITES), "LORA"),
    "MoRe": (Structured(matrix=partial(Monarch, rank=2), scale=2.0, sites=SITES), "LORA"),
    "ABBA": (Structured(matrix=partial(LowRankHadamard, rank1=2, rank2=3, alpha=4.0), sites=SITES), "LORA"),
    "C3A": (Structured(matrix=BlockCirculant), "C3A"),
    "C3A, blocks": (Structured(matrix=BlockCirculant, scale=3.0, sites=SITES), "C3A"),
    "HiRA": (HiRA(rank=3, scale=0.5, sites=SITES), "HIRA"),
    "HiRA, CDKA": (HiRA(matrix=partial(KroneckerSum, num_components=1, alpha=1.0)), "HIRA"),
    "DoRA": (DoRA(matrix=partial(LowRank, rank=3), scale=2.0, sites=SITES), "LORA"),
    "DoRA, MoRe": (DoRA(matrix=partial(Monarch, rank=2)), "LORA"),
    "OFT": (OFT(block_size=8, sites=SITES), "OFT"),
    "OFT, of a series": (OFT(block_size=8, neumann_terms=5), "OFT"),
}


@pytest.mark.parametrize(("method", "kind"), WRITTEN.values(), ids=WRITTEN)
def test_peft_opens_it_and_so_do_we_again(method, kind, tiny_bert, tmp_path):
    model = moved(kronlit.inject(base(tiny_bert), method))
    adapter = to_peft(model, str(tiny_bert))
    assert adapter.config["peft_type"] == kind
    (tmp_path / "peft").mkdir()
    adapter.write(tmp_path / "peft")
    expected = logits(model)
    assert (expected - logits(base(tiny_bert))).abs().max() > 1e-3
    theirs = PeftModel.from_pretrained(base(tiny_bert), tmp_path / "peft").eval()
    torch.testing.assert_close(logits(theirs), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(theirs.merge_and_unload()), expected, rtol=1e-5, atol=1e-5)
    loaded = kronlit.load(tmp_path / "peft", base(tiny_bert))
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-5, atol=1e-5)
    kronlit.merge(loaded)
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-5, atol=1e-5)


TARGETS = {"task_type": "SEQ_CLS", "target_modules": ["query", "dense"]}
READ = {
    "C3A": C3AConfig(task_type="SEQ_CLS", target_modules=["query"], block_size=48),
    "C3A, blocks": C3AConfig(block_size=24, block_size_pattern={"query": 12}, **TARGETS),
    "HiRA": HiraConfig(r=3, rank_pattern={"query": 2}, hira_dropout=0.1, **TARGETS),
    "DoRA": LoraConfig(r=3, lora_alpha=5, use_dora=True, rank_pattern={"query": 2}, **TARGETS),
    "DoRA, stabilized": LoraConfig(r=3, lora_alpha=5, use_dora=True, use_rslora=True, **TARGETS),
    "OFT": OFTConfig(oft_block_size=8, use_cayley_neumann=False, **TARGETS),
    "OFT, of a series": OFTConfig(oft_block_size=8, **TARGETS),
    "OFT, of blocks": OFTConfig(r=4, oft_block_size=0, **TARGETS),
}


@pytest.mark.parametrize("config", READ.values(), ids=READ)
def test_what_peft_wrote_loads_is_saved_again_and_merges(config, tiny_bert, tmp_path):
    theirs = moved(get_peft_model(base(tiny_bert), config))
    theirs.save_pretrained(tmp_path / "peft")
    expected = logits(theirs)
    ours = kronlit.load(tmp_path / "peft", base(tiny_bert))
    torch.testing.assert_close(logits(ours), expected, rtol=1e-5, atol=1e-5)
    assert (expected - logits(base(tiny_bert))).abs().max() > 1e-3
    kronlit.save(ours, tmp_path / "again")
    again = PeftModel.from_pretrained(base(tiny_bert), tmp_path / "again").eval()
    torch.testing.assert_close(logits(again), expected, rtol=1e-5, atol=1e-5)
    kronlit.merge(ours)
    torch.testing.assert_close(logits(ours), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [HiraConfig, partial(LoraConfig, use_dora=True)], ids=["HiRA", "DoRA"])
def test_a_conv1d_of_gpt2_too(config, tiny_gpt2, tmp_path):
    kinds = {"task_type": "CAUSAL_LM", "target_modules": ["c_attn"], "fan_in_fan_out": True}
    theirs = moved(get_peft_model(base(tiny_gpt2), config(r=2, **kinds)))
    theirs.save_pretrained(tmp_path / "peft")
    ours = kronlit.load(tmp_path / "peft", base(tiny_gpt2))
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-5, atol=1e-4)


ON = {"task_type": "SEQ_CLS", "target_modules": ["query", "value"]}
STARTS = {
    "C3A": (C3AConfig(block_size=48, **ON), Structured(matrix=BlockCirculant, scale=2.0)),
    "C3A as SURM": (C3AConfig(block_size=48, **ON), SURM(variant="single")),
    "HiRA": (HiraConfig(r=3, **ON), HiRA(rank=3)),
    "DoRA": (LoraConfig(r=3, lora_alpha=6, use_dora=True, **ON), DoRA(matrix=partial(LowRank, rank=3), scale=0.5)),
    "OFT": (OFTConfig(oft_block_size=8, **ON), OFT(block_size=8, neumann_terms=5)),
}


@pytest.mark.parametrize(("config", "method"), STARTS.values(), ids=STARTS)
def test_a_training_starts_from_what_peft_wrote(config, method, tiny_bert, tmp_path):
    theirs = moved(get_peft_model(base(tiny_bert), config))
    theirs.save_pretrained(tmp_path / "peft")
    ours = kronlit.inject(base(tiny_bert), method)
    init_adapter(ours, method, str(tmp_path / "peft"))
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "method", "has"),
    [
        (HiraConfig(r=3, **ON), LoRA(rank=3), "the Hadamard of a LowRank at .*, and `model.method` the Delta of a Low"),
        (OFTConfig(oft_block_size=8, **ON), OFT(block_size=8), "the Product of a BlockOrthogonal"),
        (LoraConfig(r=3, **ON), KronA(), "the Delta of a LowRank"),
    ],
)
def test_it_does_not_start_from_another_map(config, method, has, tiny_bert, tmp_path):
    get_peft_model(base(tiny_bert), config).save_pretrained(tmp_path / "peft")
    with pytest.raises(ValueError, match=has):
        init_adapter(kronlit.inject(base(tiny_bert), method), method, str(tmp_path / "peft"))


class Thin(StructuredLinear):
    """A structure of one's own that says that it is of low rank: the same row again and again."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.row = nn.Parameter(torch.empty(in_features))
        self.reset_parameters()

    def forward(self, x):
        return (x @ self.row.to(x.dtype)).unsqueeze(-1).expand(*x.shape[:-1], self.out_features)

    def to_dense(self):
        return self.row.expand(self.out_features, -1)

    def thin_factors(self):
        return self.row[None], torch.ones(self.out_features, 1)

    def reset_parameters(self):
        nn.init.zeros_(self.row)


class Doubled(Delta):
    """A placement of one's own that changes the weight otherwise."""

    def forward(self, x):
        return self.host(x) + 2 * self.matrix(x)

    def change(self, weight):
        return 2 * self.matrix.to_dense()


def test_a_structure_of_ones_own_that_is_thin_is_a_lora(tiny_bert, tmp_path):
    model = moved(kronlit.inject(base(tiny_bert), Structured(matrix=Thin, scale=2.0)))
    adapter = to_peft(model, str(tiny_bert))
    (tmp_path / "peft").mkdir()
    adapter.write(tmp_path / "peft")
    theirs = PeftModel.from_pretrained(base(tiny_bert), tmp_path / "peft").eval()
    torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-5, atol=1e-5)


def test_a_change_of_ones_own_is_not_taken_for_anothers(tiny_bert):
    model = base(tiny_bert)
    inject(model.requires_grad_(False), [Insertion(("query",), partial(Doubled, matrix=Kronecker))])
    with pytest.raises(ValueError, match="none of its adapters is like the Doubled of a Kronecker at"):
        to_peft(model, str(tiny_bert))


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (Structured(matrix=KhatriRao), "no LoRA: a KhatriRao is no product of two thin matrices"),
        (Structured(matrix=GatedKroneckers), "no LoRA: a GatedKroneckers is no product"),
        (Structured(matrix=TensorCircuit), "no LoRA: a TensorCircuit is no product"),
        (HiRA(matrix=BlockCirculant), "no HiRA: a BlockCirculant is no product of two thin matrices"),
        (DoRA(matrix=BlockCirculant), "no LoRA: a BlockCirculant is no product"),
        (OFT(block_size=8, neumann_terms=3), "no OFT: its series has 4 terms or more, and `neumann_terms` is 3"),
    ],
)
def test_what_peft_has_no_form_for_is_refused_with_the_reason(method, reason, tiny_bert):
    with pytest.raises(ValueError, match=reason):
        to_peft(kronlit.inject(base(tiny_bert), method), str(tiny_bert))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OFTConfig(oft_block_size=8, coft=True, **ON), "an OFT with `coft`"),
        (OFTConfig(oft_block_size=8, block_share=True, **ON), "an OFT with `block_share`"),
        (OFTConfig(oft_block_size=8, num_cayley_neumann_terms=2, **ON), "an OFT with 2 terms"),
    ],
)
def test_a_variant_of_oft_that_is_not_here_is_one_line(config, message, tiny_bert, tmp_path):
    get_peft_model(base(tiny_bert), config).save_pretrained(tmp_path / "peft")
    with pytest.raises(ValueError, match=message):
        kronlit.load(tmp_path / "peft", base(tiny_bert))


def test_what_is_loaded_from_peft_has_the_placement_of_its_kind(tiny_bert, tmp_path):
    get_peft_model(base(tiny_bert), HiraConfig(r=3, **ON)).save_pretrained(tmp_path / "peft")
    found = placements(kronlit.load(tmp_path / "peft", base(tiny_bert)))
    assert {type(each) for _, each in found} == {Hadamard}
