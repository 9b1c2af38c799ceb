"""Adapters as PEFT's: LoKr, LoRA or C3A, where the map is exactly the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Delta, placements
from kronlit.structured import Circulant, Kronecker, LowRank, Mixture, Stacked, StructuredLinear

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Before every name in PEFT's files."""

TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForCausalLM": "CAUSAL_LM",
}
"""The end of the name of a model's class, and what PEFT calls its task."""

ALWAYS_SAVED = ("classifier", "score")
"""Ends of the names of modules that PEFT wants in the file of every sequence classifier, whether trained or not."""


@dataclass(frozen=True)
class Change:
    """What a `Delta` adds to a weight: `scale` times `matrix`, of which a mixture is its mean."""

    matrix: StructuredLinear
    scale: float
    dropout: float
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """`(out_features, in_features)`."""
        return self.matrix.out_features, self.matrix.in_features


@dataclass(frozen=True)
class PeftAdapter:
    """What PEFT's files hold.

    Args:
        config: for adapter_config.json.
        tensors: for adapter_model.safetensors.
        why: which form it has and for what reason, in a few words.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    why: str


Form = tuple[dict[str, Any], dict[str, Tensor], str]
"""Of an adapter: what its config has beside what all have, tensors by module and name, and why it has this form."""


@torch.no_grad()
def to_peft(model: PreTrainedModel, plm: str) -> PeftAdapter:
    """What was added to `model` and trained, in PEFT's words.

    Raises:
        ValueError: if PEFT has no form that is the same map, with the reason.
    """
    changes = changes_of(model)
    task_type = next((kind for end, kind in TASK_TYPES.items() if type(model).__name__.endswith(end)), None)
    saved, own = modules_to_save(model, task_type)
    config, tensors, why = form_of(changes)
    common = {
        "base_model_name_or_path": plm,
        "task_type": task_type,
        "inference_mode": True,
        "target_modules": short_names(model, list(changes)),
        "modules_to_save": saved or None,
    }
    tensors = {PREFIX + name: tensor.float().contiguous().clone() for name, tensor in (tensors | own).items()}
    return PeftAdapter(common | config, tensors, why)


def changes_of(model: nn.Module) -> dict[str, Change]:
    """The changes of weights in `model`, by module.

    Raises:
        ValueError: if something else was added to it, or nothing.
    """
    changes = {}
    for name, placement in placements(model):
        if not isinstance(placement, Delta):
            raise ValueError(f"PEFT has no adapter like the {type(placement).__name__} at {name}.")
        if any(parameter.requires_grad for parameter in placement.host.parameters()):
            raise ValueError(f"{name} has trained parameters of its own beside what was added, which PEFT has not.")
        matrix = placement.matrix.mean_expert() if isinstance(placement.matrix, Mixture) else placement.matrix
        transposed = not isinstance(placement.host, nn.Linear)
        changes[name] = Change(matrix, float(placement.scale), placement.dropout, transposed)
    if not changes:
        raise ValueError("nothing was added beside a module that PEFT could add: `kronlit merge` it instead.")
    return changes


def form_of(changes: dict[str, Change]) -> Form:
    """The first form that is the same map."""
    reasons = []
    forms: tuple[Callable[[dict[str, Change]], Form], ...] = (lokr, lora, c3a)
    for form in forms:
        try:
            return form(changes)
        except ValueError as error:
            reasons.append(f"no {form.__name__.upper()}: {error}")
    raise ValueError(f"PEFT has no form that is the same map; {'; '.join(reasons)}.")


def lokr(changes: dict[str, Change]) -> Form:
    """Kronecker products of a shape that PEFT's LoKr can have: it is given by one number for all modules."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, change in changes.items():
        if not isinstance(change.matrix, Kronecker) or change.transposed:
            raise ValueError(f"{name} is changed by a {type(change.matrix).__name__}, not by a Kronecker product")
        pairs[name] = (change.matrix.a, change.matrix.b)

    def has(factor: int) -> bool:
        return all(
            (a.shape[i], b.shape[i]) == factorization(a.shape[i] * b.shape[i], factor)
            for a, b in pairs.values()
            for i in (0, 1)
        )

    largest = max(size for pair in pairs.values() for matrix in pair for size in matrix.shape)
    factor = next((number for number in (-1, *range(1, largest + 1)) if has(number)), None)
    a, b = next(iter(pairs.values()))
    if factor is None:
        raise ValueError(f"it has no factors of shapes {tuple(a.shape)} and {tuple(b.shape)} for all modules")
    rank = largest  # above half of what the second factor measures, so that PEFT keeps both factors whole
    scale = common_scale(changes)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        tensors |= {f"{name}.lokr_w1": a * (changes[name].scale if scale is None else 1), f"{name}.lokr_w2": b}
    config = {"peft_type": "LOKR", "r": rank, "alpha": rank if scale is None else rank * scale}
    config |= {"decompose_both": False, "decompose_factor": factor, "rank_dropout": 0.0, "module_dropout": 0.0}
    return config, tensors, f"LoKr, whose decompose_factor={factor} has factors of these shapes"


def lora(changes: dict[str, Change]) -> Form:
    """Matrices of low rank, and Kronecker products that are of low rank."""
    pairs = {}
    for name, change in changes.items():
        pairs[name] = a, b = low_rank(change.matrix)
        rank = len(a)
        if a.numel() + b.numel() >= change.matrix.in_features * change.matrix.out_features:
            raise ValueError(f"{name} would have rank {rank}, and more numbers than its weight {change.shape}")
    scale = common_scale(changes)
    ranks = {name: len(a) for name, (a, _) in pairs.items()}
    most = max(ranks.values())
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        b = b * (changes[name].scale if scale is None else 1)
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    factor = 1.0 if scale is None else scale
    others = {name: rank for name, rank in ranks.items() if rank != most}
    config = {
        "peft_type": "LORA",
        "r": most,
        "lora_alpha": factor * most,
        "lora_dropout": max(change.dropout for change in changes.values()),
        "bias": "none",
        "fan_in_fan_out": all(change.transposed for change in changes.values()),
        "rank_pattern": others,
        "alpha_pattern": {name: factor * rank for name, rank in others.items()},
    }
    plain = all(isinstance(change.matrix, LowRank) for change in changes.values())
    why = f"LoRA of rank {most}" + ("" if plain else ", which these products are: A ⊗ B = (A ⊗ I)(I ⊗ B)")
    return config, tensors, why


def c3a(changes: dict[str, Change]) -> Form:
    """Square circulant matrices. PEFT's kernel runs the other way, and it divides by the width."""
    tensors, sizes = {}, {}
    for name, change in changes.items():
        rows, columns = change.shape
        if not isinstance(change.matrix, Circulant) or rows != columns or change.transposed:
            raise ValueError(
                f"{name} is changed by a {type(change.matrix).__name__} of {change.shape}, no square circulant"
            )
        column = change.matrix.column
        kernel = column.flip(0).roll(1) * (change.scale * columns)
        tensors[f"{name}.c3a_kernel"] = kernel.reshape(1, 1, -1)
        sizes[name] = columns
    size = max(sizes.values())
    config = {"peft_type": "C3A", "block_size": size, "bias": "none"}
    config["block_size_pattern"] = {name: other for name, other in sizes.items() if other != size}
    return config, tensors, f"C3A of one block, {size} wide"


def low_rank(matrix: StructuredLinear) -> tuple[Tensor, Tensor]:
    """Factors `(rank, in_features)` and `(out_features, rank)`, whose product, the second times the first, is `matrix`.

    Raises:
        ValueError: if its structure gives none.
    """
    if isinstance(matrix, LowRank):
        return matrix.a, matrix.b
    if isinstance(matrix, Kronecker):
        (left_a, right_a), (left_b, right_b) = halves(matrix.a), halves(matrix.b)
        return torch.kron(right_a, right_b), torch.kron(left_a, left_b)
    if isinstance(matrix, Mixture):
        return low_rank(matrix.mean_expert())
    if isinstance(matrix, Stacked):
        parts = [(part, *low_rank(matrix.get_submodule(name))) for name, part in matrix.slices.items()]  # type: ignore[arg-type]
        a = torch.cat([a for _, a, _ in parts])
        b, start = a.new_zeros(matrix.out_features, len(a)), 0
        for part, _, one in parts:
            b[part, start : start + one.shape[1]] = one
            start += one.shape[1]
        return a, b
    raise ValueError(f"a {type(matrix).__name__} is no product of two thin matrices")


def halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`matrix` as a product through its smaller side: itself and an identity."""
    rows, columns = matrix.shape
    identity = torch.eye(min(rows, columns), dtype=matrix.dtype, device=matrix.device)
    return (identity, matrix) if rows <= columns else (matrix, identity)


def factorization(dimension: int, factor: int) -> tuple[int, int]:
    """The two sizes into which PEFT's LoKr cuts a dimension (`factorization` in its `tuners/lokr/layer.py`).

    The factor and what is left, if it divides; else the divisor nearest to the square root, and not above the factor.
    """
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    limit = dimension if factor == -1 else factor
    small = max(n for n in range(1, dimension + 1) if dimension % n == 0 and n * n <= dimension and n <= max(limit, 1))
    return small, dimension // small


def common_scale(changes: dict[str, Change]) -> float | None:
    """The scale of all changes, if it is one."""
    scales = {change.scale for change in changes.values()}
    return scales.pop() if len(scales) == 1 else None


def outside_placements(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of `model` as it came, with their names."""
    inside = tuple(f"{name}." for name, _ in placements(model))
    return ((name, module) for name, module in model.named_modules() if not name.startswith(inside))


def short_names(model: nn.Module, targets: list[str]) -> list[str]:
    """The ends of the names `targets`, if only they end so; else the names."""
    ends = {name.rsplit(".", 1)[-1] for name in targets}
    named = {name for name, _ in outside_placements(model) if name.rsplit(".", 1)[-1] in ends}
    return sorted(ends) if named == set(targets) else targets


def modules_to_save(model: PreTrainedModel, task_type: str | None) -> tuple[list[str], dict[str, Tensor]]:
    """The modules of the model's own that were trained, for `modules_to_save`, and all that they hold.

    Raises:
        ValueError: if one is trained in part and PEFT could not keep the rest of it tied to what it is.
    """
    changed = {id(parameter) for _, placement in placements(model) for parameter in placement.parameters()}
    trained = {id(p) for p in model.parameters() if p.requires_grad} - changed
    names = list(trained_modules("", model, trained))
    ends = [*names, *(ALWAYS_SAVED if task_type == "SEQ_CLS" else ())]
    tensors = {
        f"{name}.{key}": tensor
        for name, module in outside_placements(model)
        if name.endswith(tuple(ends)) and ends
        for key, tensor in module.state_dict().items()
    }
    always = [end for end in ALWAYS_SAVED if end in ends and any(key.startswith(f"{end}.") for key in tensors)]
    return sorted({*names, *always}), tensors


def trained_modules(name: str, module: nn.Module, trained: set[int]) -> Iterator[str]:
    """The outermost modules in `module` of which all, or that as a leaf have some, was trained."""
    within = [id(parameter) in trained for parameter in module.parameters()]
    if not any(within):
        return
    children = list(module.named_children())
    if name and (all(within) or not children):
        yield name
    elif any(id(parameter) in trained for parameter in module.parameters(recurse=False)):
        raise ValueError(f"of {name} a part alone was trained, and PEFT would keep a copy of the whole")
    else:
        for child, submodule in children:
            yield from trained_modules(f"{name}.{child}" if name else child, submodule, trained)
