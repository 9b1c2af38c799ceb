"""What was added to a part of a module that computes query, key and value is PEFT's LoRA of the whole module."""

import pytest
import torch
from fixtures.architectures import build, run
from peft import PeftModel
from torch import nn

import kronlit
from kronlit.adapters import placements
from kronlit.exchange.peft.write import to_peft


@pytest.mark.parametrize(
    "architecture", ["modernbert", "phi3", "gpt_neox", "bloom", "falcon", "falcon new", "gpt_bigcode"]
)
@pytest.mark.parametrize(
    "method", [kronlit.LoRA(rank=2, alpha=6.0, trains=()), kronlit.KronA(a_shape=(16, 2), trains=())]
)
def test_peft_opens_it_with_the_same_outputs(architecture, method, tmp_path):
    model = kronlit.inject(build(architecture), method)
    for _, placement in placements(model):
        for parameter in placement.matrix.parameters():
            nn.init.normal_(parameter, std=0.3)
    adapter = to_peft(model, "somewhere")
    adapter.write(tmp_path)
    theirs = PeftModel.from_pretrained(build(architecture), tmp_path).eval()
    assert (run(model) - run(build(architecture))).abs().max() > 1e-3
    torch.testing.assert_close(run(theirs), run(model), rtol=1e-4, atol=1e-5)
    module, *_ = adapter.config["target_modules"]
    up = adapter.tensors[next(name for name in adapter.tensors if name.endswith(f"{module}.lora_B.weight"))]
    untouched = (up == 0).all(1).float().mean()
    share = {"phi3": 1 / 4, "falcon": 1 / 6, "falcon new": 1 / 4, "gpt_bigcode": 1 / 6}  # of key, in heads
    assert untouched == pytest.approx(share.get(architecture, 1 / 3))


def test_peft_has_no_form_of_a_circulant_part():
    with pytest.raises(ValueError, match="PEFT has no form that is the same map; no LoRA: a Circulant is no product"):
        to_peft(kronlit.inject(build("gpt_neox"), kronlit.SURM(trains=())), "somewhere")
