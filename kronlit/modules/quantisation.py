"""Quantises the frozen linear modules of a model: NF4 and int8 of bitsandbytes, int8 of torchao."""

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kronlit.adapters.quantised import Int8Linear, QuantisedLinear
from kronlit.config.user_error import UserError
from kronlit.methods.base import group

Quantization = Literal["none", "nf4", "int8", "int8_torchao"]
ComputeDtype = Literal["auto", "float32", "bfloat16", "float16"]

BLOCK, NESTED_BLOCK = 64, 256
"""How many numbers share a scale in NF4, and how many scales share one where these are quantised, too (QLoRA)."""


class NF4Linear(QuantisedLinear):
    """A quantised module of 4 bits, whose 16 values are quantiles of a normal distribution: QLoRA, section 3.

    Each block of 64 numbers, in the order of the rows, has a scale. It takes 4.5 bits a number; with `double`, where
    the scales are quantised to 8 bits, 4.13.

    Args:
        whole: the module whose weight is quantised.
        double: whether the scales are quantised, too.
        compute_dtype: as in `QuantisedLinear`.
    """

    absmax: Tensor

    def __init__(self, whole: nn.Linear, double: bool = False, compute_dtype: torch.dtype | None = None) -> None:
        functional = package("bitsandbytes.functional")
        numbers = whole.weight.detach().float()  # so that files of any type give the same bytes
        codes, state = functional.quantize_4bit(numbers, blocksize=BLOCK, quant_type="nf4", compress_statistics=double)
        scales = {"absmax": state.absmax}
        if double:
            scales |= {"offset": state.offset, "nested_absmax": state.state2.absmax, "nested_code": state.state2.code}
        super().__init__(whole, codes, compute_dtype, **scales)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        operators: Any = torch.ops.bitsandbytes
        absmax = self.absmax
        if "offset" in self._buffers:
            nested = (self.get_buffer("nested_absmax"), self.get_buffer("nested_code"), NESTED_BLOCK, torch.float32)
            absmax = operators.dequantize_blockwise(absmax, *nested) + self.get_buffer("offset")
        found = dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32  # it leaves other types empty
        # As one row: bitsandbytes 0.50 on CPUs begins a block anew with each row, which is wrong for other widths.
        size = (self.in_features * self.out_features,)
        numbers: Tensor = operators.dequantize_4bit(self.weight, absmax, BLOCK, "nf4", size, found)
        return numbers.view(self.out_features, self.in_features).to(dtype)


def int8(whole: nn.Linear, compute_dtype: torch.dtype | None = None) -> Int8Linear:
    """`whole` in 8 bits, rounded by bitsandbytes, which rounds to float16 first."""
    codes, absmax, _ = package("bitsandbytes.functional").int8_vectorwise_quant(whole.weight.detach().half())
    return Int8Linear(whole, codes, absmax.float().unsqueeze(-1) / 127, compute_dtype)


def int8_torchao(whole: nn.Linear, compute_dtype: torch.dtype | None = None) -> Int8Linear:
    """`whole` in 8 bits, rounded by torchao."""
    torchao = package("torchao.quantization")
    copy = nn.Linear(whole.in_features, whole.out_features, bias=False, device="meta")
    copy.weight = nn.Parameter(whole.weight.detach().float(), requires_grad=False)
    torchao.quantize_(copy, torchao.Int8WeightOnlyConfig(set_inductor_config=False))
    found: Any = copy.weight
    return Int8Linear(whole, found.qdata, found.scale.float().view(-1, 1), compute_dtype)


@dataclass(frozen=True)
class Quantisation:
    """How frozen linear modules are stored.

    Args:
        quantization: none; nf4, 4 bits; int8, 8 bits, both of bitsandbytes; or int8_torchao, 8 bits of torchao.
        double: whether the scales of nf4 are quantised, too.
        compute_dtype: the type that their products are computed in; auto is that of other products.
    """

    quantization: Quantization = "none"
    double: bool = False
    compute_dtype: ComputeDtype = "auto"

    def __post_init__(self) -> None:
        if self.double and self.quantization != "nf4":
            raise UserError(
                f"`double_quantization`=True quantises the scales of nf4, and `quantization` is {self.quantization!r}."
            )
        if self.compute_dtype != "auto" and self.quantization == "none":
            raise UserError(
                f"`compute_dtype`={self.compute_dtype!r} is that of quantised products, and `quantization` is 'none'."
            )

    def apply(self, model: nn.Module, drawn: Iterable[nn.Parameter] = ()) -> None:
        """Quantise the linear modules in the body of `model`, in place, one by one.

        Embeddings, the head and what is tied to them stay, and so do the modules that Transformers keeps in float32.

        Args:
            model: a Transformers model without adapters.
            drawn: parameters that are not of its files, and are to be trained.

        Raises:
            UserError: if the package is missing, or there is nothing to quantise.
        """
        if self.quantization == "none":
            return
        dtype = None if self.compute_dtype == "auto" else getattr(torch, self.compute_dtype)
        make: Callable[[nn.Linear], QuantisedLinear] = {
            "nf4": lambda whole: NF4Linear(whole, self.double, dtype),
            "int8": lambda whole: int8(whole, dtype),
            "int8_torchao": lambda whole: int8_torchao(whole, dtype),
        }[self.quantization]
        places = list(quantisable(model, drawn))
        if not places:
            raise UserError(
                f"`quantization`={self.quantization!r}: a {type(model).__name__} has no linear module in its body "
                "that could be quantised (GPT-2's Conv1D cannot); leave it out."
            )
        for holders in places:
            parent, name = holders[0]
            module = make(cast(nn.Linear, parent.get_submodule(name)))
            for parent, name in holders:
                setattr(parent, name, module)


def quantisable(model: nn.Module, drawn: Iterable[nn.Parameter] = ()) -> Iterator[list[tuple[nn.Module, str]]]:
    """The linear modules of `model` that may be quantised: for each, the modules that hold it, and its name there."""
    outputs = getattr(model, "get_output_embeddings", lambda: None)()
    kept = {id(p) for p in (*drawn, *group(model, "head"), *([] if outputs is None else outputs.parameters()))}
    kept |= {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    whole = {*(getattr(model, "_keep_in_fp32_modules", None) or ())}
    whole |= {*(getattr(model, "_keep_in_fp32_modules_strict", None) or ())}
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for name, child in parent._modules.items():
            if type(child) is nn.Linear and id(child.weight) not in kept and name not in whole:
                found.setdefault(id(child), []).append((parent, name))
    yield from found.values()


def package(name: str) -> Any:
    """A module of an optional package. What it logs while it is imported is about machines that it was not made for.

    Raises:
        UserError: if the package is missing.
    """
    try:
        with silence():
            return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"`quantization` needs {name.partition('.')[0]}, which is missing: pip install 'kronlit[quantized]'."
        ) from error


@contextmanager
def silence() -> Iterator[None]:
    """Log nothing below errors for a while."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
