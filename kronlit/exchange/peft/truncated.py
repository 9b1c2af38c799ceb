"""Any change of weights as PEFT's LoRA, by the truncated singular value decomposition (Eckart and Young, 1936)."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Delta, placements
from kronlit.adapters.dense_change import dense_change
from kronlit.adapters.inject import check_merge, replace
from kronlit.config.user_error import UserError, user_errors
from kronlit.exchange.peft.lora import largest_rank
from kronlit.exchange.peft.write import PeftAdapter, adapter_of
from kronlit.structured import LowRank


@dataclass(frozen=True)
class Truncated:
    r"""The nearest matrix of low rank to a :math:`\Delta W`, as a product :math:`BA`.

    Args:
        a: `(rank, in_features)`.
        b: `(out_features, rank)`.
        error: Frobenius norm of what is left out, as a share of that of the whole.
        bias: the change of the bias beside it, `(out_features,)`, if there is one.
    """

    a: Tensor
    b: Tensor
    error: float
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """`(out_features, in_features)`."""
        return len(self.b), self.a.shape[1]


def truncate(change: Tensor, rank: int | None, error: float | None, bias: Tensor | None = None) -> Truncated:
    """The best product of two thin matrices for `change`, `(out_features, in_features)`, in its own precision.

    Args:
        change: the dense matrix.
        rank: the rank, at most the smaller width; or `None`, if `error` is given.
        error: the largest relative error, for which the least rank is taken, at least 1.
        bias: what `Truncated` keeps beside it.
    """
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    # by rank 0, 1, ..., n: the norm of the singular values from there on, summed from the smallest
    tails = torch.cat([values.square().flip(0).cumsum(0).flip(0), values.new_zeros(1)]).sqrt()
    whole = tails[0]
    if rank is None:
        assert error is not None
        rank = max(1, int((tails > error * whole).sum()))
    rank = min(rank, len(values))
    root = values[:rank].sqrt()
    relative = (tails[rank] / whole).item() if whole > 0 else 0.0
    return Truncated(root.unsqueeze(-1) * right[:rank], left[:, :rank] * root, relative, bias)


def truncated_changes(model: PreTrainedModel, rank: int | None, error: float | None) -> dict[str, Truncated]:
    """By module the truncated change that merging what was added to `model` would make.

    Raises:
        ValueError: if something does not merge, or nothing was added.
    """
    with user_errors((TypeError, ValueError)):
        check_merge(model)
    found = {}
    for name, placement in placements(model):
        if any(parameter.requires_grad for parameter in placement.host.parameters()):
            raise UserError(f"{name} has trained parameters of its own beside what was added, which a LoRA has not.")
        change, bias = dense_change(placement)
        found[name] = truncate(change, rank, error, bias)
    if not found:
        raise UserError("nothing was added beside a module, so there is no LoRA of it: `kronlit merge` it instead.")
    return found


@torch.no_grad()
def to_lora(model: PreTrainedModel, plm: str, changes: dict[str, Truncated]) -> PeftAdapter:
    """The files of a LoRA with these changes, whose scale is 1, and of what was trained beside it."""
    hosts = dict(placements(model))
    most, others = largest_rank({name: (one.a, one.b) for name, one in changes.items()})
    tensors: dict[str, Tensor] = {}
    for name, one in changes.items():
        tensors |= {f"{name}.lora_A.weight": one.a, f"{name}.lora_B.weight": one.b}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "r": most,
        "lora_alpha": most,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": all(not isinstance(hosts[name].host, nn.Linear) for name in changes),
        "rank_pattern": others,
        "alpha_pattern": others,
    }
    if any(one.bias is not None for one in changes.values()):
        config["lora_bias"] = True
        for name, one in changes.items():
            tensors[f"{name}.lora_B.bias"] = one.b.new_zeros(len(one.b)) if one.bias is None else one.bias
    worst = max(one.error for one in changes.values())
    why = f"LoRA of rank {most} by truncated SVD; the largest relative error of a ΔW is {worst:.2e}"
    return adapter_of(model, plm, list(changes), config, tensors, why)


@torch.no_grad()
def put_in(model: nn.Module, changes: dict[str, Truncated]) -> None:
    """Replace what was added to `model` by the truncated changes."""
    others: dict[int, nn.Module] = {}
    for name, placement in list(placements(model)):
        one = changes[name]
        rows, columns = one.shape
        delta = Delta(placement.host, columns, rows, partial(LowRank, rank=len(one.a)))
        delta.load_state_dict({"matrix.a": one.a, "matrix.b": one.b}, strict=False)
        if one.bias is not None and placement.bias is not None:
            placement.bias.add_(one.bias)
        others[id(placement)] = delta.eval()
    replace(model, others)
