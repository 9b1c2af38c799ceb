"""Names in messages and tables, which can be copied from them."""

import re

import pytest
import torch
import transformers

from kronlit import KronA, LoRA, inject, trainable_report
from kronlit.adapters.sites import without_layers

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def dinov2():
    return transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(**SMALL, mlp_ratio=1, image_size=16, patch_size=4)
    )


def ctrl():
    """A model that is of no family of sites, with digits in the names of its modules."""
    return transformers.CTRLModel(transformers.CTRLConfig(vocab_size=99, n_embd=24, dff=24, n_layer=2, n_head=2))


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("encoder.layers.11.mlp.fc1", "encoder.layers.*.mlp.fc1"),
        ("dinov2.layers.0.mlp.fc2.matrix.a", "dinov2.layers.*.mlp.fc2.matrix.a"),
        ("h.0.block2.3.w_0", "h.*.block2.*.w_0"),
    ],
)
def test_the_numbers_of_layers_alone_are_masked(name, masked):
    assert without_layers(name) == masked
    assert re.fullmatch(masked, name)


def test_a_table_names_modules_as_the_model_does():
    report = trainable_report(inject(dinov2(), KronA(sites=("ffn_input", "ffn_output"), trains=())))
    names = [line.split()[0] for line in report.splitlines()[1:-1]]
    stem = "dinov2.layers.*" if "dinov2.layers.*" in report else "dinov2.encoder.layer.*"
    assert names == [f"{stem}.mlp.{module}.matrix.{factor}" for module in ("fc1", "fc2") for factor in ("a", "b")]


def test_every_linear_module_that_a_message_names_is_a_site_when_copied():
    with pytest.raises(ValueError, match="its linear modules are") as caught:
        inject(ctrl(), KronA())
    names = re.search(r"its linear modules are (.*?)\. A site", str(caught.value))[1].split(", ")
    assert any(name.endswith("Wq") for name in names)
    for name in names:
        if name == "head":  # it stands beside the output that is read here
            continue
        model = inject(ctrl(), LoRA(rank=2, sites=(name,)))
        assert model.eval()(torch.arange(5)[None]).last_hidden_state.isfinite().all()
