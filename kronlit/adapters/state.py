"""The trained state: its entries, their names across versions, and the frozen weights that it belongs to."""

import hashlib
import re
from collections import Counter

from torch import Tensor, nn

from kronlit.adapters.inject import placements
from kronlit.adapters.quantised import QuantisedLinear, first_numbers
from kronlit.adapters.several import Several


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The entries of `model.state_dict()` that a checkpoint needs: trained parameters, and all state of placements.

    A tied parameter has one entry, under its first name.
    """
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    others = {name for name, _ in model.named_parameters(remove_duplicate=False)} - {
        name for name, _ in model.named_parameters()
    }
    state = model.state_dict()
    prefixes = tuple(f"{name}." for name, placement in placements(model) if not placement.below)
    hosts = tuple(f"{prefix}host." for prefix in prefixes)
    return {
        name: tensor
        for name, tensor in state.items()
        if name in names or (name.startswith(prefixes) and not name.startswith(hosts) and name not in others)
    }


def fingerprint(model: nn.Module) -> str:
    """A hash of the frozen weights of `model`, without what stands below others: twelve hexadecimal digits.

    A quantised weight counts as what it was before, so that a model is known whether it is quantised or not.
    """
    below = {id(parameter) for parameter in added_below(model)}
    before = {id(module.weight): module.start for module in model.modules() if isinstance(module, QuantisedLinear)}
    frozen = [p for p in model.parameters() if not p.requires_grad and id(p) not in below]
    firsts = [before[id(one)] if id(one) in before else first_numbers(one) for one in frozen]
    starts = [first.numpy().tobytes() for first in firsts]
    # Sorted, because Transformers reorders modules from one version to the next (ViT, DINOv2).
    return hashlib.sha256(b"".join(sorted(starts))).hexdigest()[:12]


def fingerprint_below(model: nn.Module) -> str | None:
    """A hash of the frozen adapter below what is trained, or `none`; `None` if several are mixed there."""
    if any(isinstance(module, Several) for module in model.modules()):
        return None
    values = sorted(parameter.detach().float().cpu().numpy().tobytes() for parameter in added_below(model))
    return hashlib.sha256(b"".join(values)).hexdigest()[:12] if values else "none"


def added_below(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of what stands below others."""
    return [parameter for _, placement in placements(model) if placement.below for parameter in placement.added()]


RENAMED = (
    (r"\.host(?=\.)|\.each\.\d+(?=\.)", ""),  # what is trained may be within what stands below, or not
    (r"\bencoder\.layer\.(?=\d)", "layers."),
    (r"\battention\.attention\.(q|k|v)(uery|ey|alue)\b", r"attention.\1_proj"),
    (r"\battention\.output\.dense\b", "attention.o_proj"),
    (r"(?<=\d\.)intermediate\.dense\b", "mlp.fc1"),
    (r"(?<=\d\.)output\.dense\b", "mlp.fc2"),
)
"""Parts of names that do not matter, and module names of ViT that versions of Transformers have renamed: a pattern for
the old name, and the new one."""


def with_current_names(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the module names of the installed version of Transformers."""

    def canonical(name: str) -> str:
        for older, newer in RENAMED:
            name = re.sub(older, newer, name)
        return name

    known = adapter_state(model)
    times = Counter(map(canonical, known))  # a structure may have names that differ only by what is left out
    own = {canonical(name): name for name in known if times[canonical(name)] == 1}
    return {name if name in known else own.get(canonical(name), name): tensor for name, tensor in state.items()}


def state_mismatch(model: nn.Module, state: dict[str, Tensor]) -> str:
    """How `state` differs from what `model` trains, in names and shapes; empty if it does not."""
    own = adapter_state(model)
    faults = [f"lacks {name}" for name in own if name not in state]
    faults += [f"has {name}, which this model does not train" for name in state if name not in own]
    faults += [
        f"has {name} of shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "") if faults else ""
