"""The fused Kronecker kernels: their numbers in Triton's interpreter, and that they compile for real devices.

A kernel is compiled for a GPU without there being one; that it runs there, these tests cannot show.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from kronlit import KronA, inject
from kronlit.experimental import fused_kronecker
from kronlit.experimental.fused_kronecker import TRITON, FusedKronecker, fuse
from kronlit.structured import Kronecker

pytestmark = pytest.mark.skipif(not TRITON, reason="Triton is for Linux on x86-64")

SHAPES = [(24, 32, 32, 24), (32, 24, 24, 32), (3, 5, 7, 2), (1, 16, 16, 1), (64, 64, 64, 64)]

# Apart, as Triton reads TRITON_INTERPRET when it is imported.
COMPARE = """
import json, sys
import torch
from kronlit.experimental.fused_kronecker import kernels
from kronlit.experimental.fused_kronecker.kernels import FusedKroneckerAddition

kernels.PROGRAMS = 4  # so that each has several tokens
errors = {}
for a1, a2, b1, b2 in json.loads(sys.argv[1]):
    for dtype in (torch.float32, torch.float16):
        for b_first in (True, False):
            for tokens in ((2, 5), (3,), (0, 3)):
                torch.manual_seed(0)
                x = torch.randn(*tokens, a2 * b2, dtype=dtype).requires_grad_()
                a = (torch.randn(a1, a2) / a2**0.5).to(dtype).requires_grad_()
                b = (torch.randn(b1, b2) / b2**0.5).to(dtype).requires_grad_()
                y = torch.randn(*tokens, a1 * b1, dtype=dtype).requires_grad_()
                dy = torch.randn(*tokens, a1 * b1, dtype=dtype)
                found = FusedKroneckerAddition.apply(y, x, a, b, 0.7, b_first)
                found.backward(dy)
                exact = [t.detach().double().requires_grad_() for t in (y, x, a, b)]
                y64, x64, a64, b64 = exact
                right = y64 + 0.7 * x64 @ torch.kron(a64, b64).T
                right.backward(dy.double())
                pairs = [(found, right), *((t.grad, e.grad) for t, e in zip((y, x, a, b), exact))]
                worst = max(((f.double() - r).norm() / (r.norm() + 1e-30)).item() for f, r in pairs)
                errors[f"{a1} {a2} {b1} {b2} {dtype} {b_first} {tokens}"] = worst
print(json.dumps(errors))
"""


def test_forward_and_gradients_are_those_of_the_kronecker_product():
    run = subprocess.run(
        [sys.executable, "-c", COMPARE, json.dumps(SHAPES)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    errors = json.loads(run.stdout)
    assert len(errors) == len(SHAPES) * 2 * 2 * 3
    for case, error in errors.items():
        assert error < (1e-6 if "float32" in case else 1e-3), case


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("width", [512, 768, 1024, 4096, 8192])
@pytest.mark.parametrize("name", ["_forward", "_backward"])
def test_the_kernels_compile_for_devices(name, width, capability, tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kronlit.experimental.fused_kronecker import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    matrix = Kronecker(width, width)
    layout = kernels.layout(matrix.a, matrix.b)
    warps = layout.pop("num_warps")
    kernel, signature, constants = getattr(kernels, name), {}, {}
    for argument in kernel.arg_names:
        if argument.endswith("_ptr"):
            signature[argument] = "*fp32" if argument in ("da_ptr", "db_ptr") else "*bf16"
        elif argument in ("scale", "tokens", "programs"):
            signature[argument] = "fp32" if argument == "scale" else "i32"
        else:
            signature[argument], constants[argument] = "constexpr", layout.get(argument, True)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(ASTSource(kernel, signature, constants), target=target, options={"num_warps": warps})
    assert compiled.asm["cubin"]
    assert "mma" in compiled.asm["ptx"]  # tensor cores
    # What a block of threads may have on A100 and H100 (CUDA C++ Programming Guide, compute capabilities).
    assert compiled.metadata.shared <= {80: 163, 90: 227}[capability] * 1024


def test_the_plain_path_is_used_where_there_is_no_gpu():
    matrix = FusedKronecker(12, 8)
    torch.nn.init.normal_(matrix.b)
    y, x = torch.randn(3, 8).bfloat16(), torch.randn(3, 12).bfloat16()
    added = matrix.added_to(y, x, 2.0)
    assert added.dtype == torch.bfloat16
    expected = y.double() + 2 * x.double() @ torch.kron(matrix.a, matrix.b).double().T
    torch.testing.assert_close(added.double(), expected, rtol=0.05, atol=0.1)


def test_fusing_changes_the_kronecker_products_alone_and_none_of_their_numbers(tiny_bert):
    model = inject(AutoModelForSequenceClassification.from_pretrained(tiny_bert), KronA())
    assert not any(isinstance(module, FusedKronecker) for module in model.modules())  # off unless asked for
    before, kinds = model.state_dict(), [type(module) for module in model.modules()]
    fuse(model)
    expected = [FusedKronecker if kind is Kronecker else kind for kind in kinds]
    assert [type(module) for module in model.modules()] == expected != kinds
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_without_triton_one_line_says_so(monkeypatch):
    monkeypatch.setattr(fused_kronecker, "TRITON", False)
    with pytest.raises(ValueError, match=r"needs Triton.*pip install triton.*leave it out"):
        fuse(Kronecker(12, 8))


def test_a_fit_is_asked_for_it_by_a_callback(kronlit, config, monkeypatch):
    asked = []
    monkeypatch.setattr(fused_kronecker, "fuse", asked.append)
    callback = "kronlit.experimental.fused_kronecker.FuseKronecker"
    code, _, err = kronlit("fit", "--config", config, "--trainer.callbacks", callback, "--trainer.fast_dev_run", "1")
    assert code == 0, err
    assert [type(module).__name__ for module in asked] == ["SequenceClassification"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU runs it, the interpreter has shown its numbers")
@pytest.mark.parametrize("width", [768, 1024, 4096, 8192])
def test_on_a_gpu_it_is_what_the_plain_path_gives(width):
    from kronlit.structured.base import StructuredLinear

    matrix = FusedKronecker(width, width).cuda()
    torch.nn.init.normal_(matrix.b, std=0.1)
    y, x = (torch.randn(4, 37, width, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in "yx")
    gradients = []
    for function in (matrix.added_to, lambda *given: StructuredLinear.added_to(matrix, *given)):
        total = function(y, x, 0.5)
        grads = torch.autograd.grad(total, (y, x, matrix.a, matrix.b), torch.ones_like(total))
        gradients.append((total, *grads))
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).float().norm() <= 0.02 * theirs.float().norm()
