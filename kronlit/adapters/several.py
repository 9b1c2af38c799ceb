"""Several adapters in one frozen model: their outputs are mixed, or each row goes through its own.

Mixed with weights by layer, as in Wang et al., Efficient test time adapter ensembling for low-resource language
varieties, 2021, arXiv:2109.04877, equation 2.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kronlit.adapters.joint import HOLDERS, have_same_parameters
from kronlit.adapters.linear import weight_of
from kronlit.adapters.placement import Placement
from kronlit.adapters.prompt import SoftPrompt
from kronlit.adapters.quantised import QuantisedLinear

Model = TypeVar("Model", bound=nn.Module)


class Blend:
    """What a model of several adapters does with them. By default it mixes their outputs uniformly.

    Attributes:
        adapters: the number of adapters.
        layers: the number of each layer that an adapter changes, by its name.
        weights: the share of each adapter in each layer, `(layers, adapters)`, or with shares of each row's own,
            `(layers, rows, adapters)`; `None` if uniform.
        rows: the number of each row's adapter, `(rows,)`; nothing is mixed then. `None` if all are mixed.
    """

    def __init__(self, adapters: int) -> None:
        self.adapters = adapters
        self.layers: dict[str, int] = {}
        self.weights: Tensor | None = None
        self.rows: Tensor | None = None
        self._places: dict[int, list[Tensor]] = {}

    def layer_of(self, name: str | None) -> int | None:
        """The number of the layer of this name, which is a new one if it is not known."""
        return None if name is None else self.layers.setdefault(name, len(self.layers))

    def mix(self, outputs: Sequence[Tensor], layer: int | None) -> Tensor:
        """The weighted sum of what the adapters give at one place. Outside of all layers it is their mean."""
        stacked = torch.stack(tuple(outputs))  # (adapters, rows, ...)
        if self.weights is None or layer is None:
            return stacked.mean(0)
        weights = self.weights[layer].to(stacked)
        if weights.ndim == 2:
            weights = spread(weights, stacked.shape[1]).mT
        return (stacked * weights.reshape(*weights.shape, *[1] * (stacked.ndim - weights.ndim))).sum(0)

    def choose(self, rows: Tensor | None) -> None:
        """Let each row go through its own adapter, or, with `None`, mix them again."""
        self.rows, self._places = rows, {}

    def places(self, rows: int) -> list[Tensor]:
        """The rows of each adapter in a tensor of so many."""
        assert self.rows is not None
        if rows not in self._places:
            own = spread(self.rows, rows)
            self._places[rows] = [(own == number).nonzero().squeeze(-1) for number in range(self.adapters)]
        return self._places[rows]


def spread(values: Tensor, rows: int) -> Tensor:
    """`values`, one a row, for a tensor in which each row comes several times on end, as beams and choices do.

    Raises:
        ValueError: if the tensor's first dimension counts something else.
    """
    times, left = divmod(rows, len(values))
    if left or not times:
        raise ValueError(f"a tensor of {rows} rows inside the model does not hold the {len(values)} rows of the batch.")
    return values if times == 1 else values.repeat_interleave(times, 0)


class Several(nn.Module):
    """What stands at one place of several models that share their frozen weights.

    Args:
        modules: that of each model: a placement, the bare host of one, or a module that was trained.
        blend: what is done with them; read at each call.
        layer: the number of its layer in `blend`; `None` outside of all layers.

    Shape:
        As its modules. Of the arguments, tensors with as many rows as the first one are split by rows where each row
        has its own adapter, and all else goes to every module.
    """

    def __init__(self, modules: Sequence[nn.Module], blend: Blend, layer: int | None) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)
        self.blend = blend
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.blend.rows is None:
            return self.blend.mix([module(*args, **kwargs) for module in self.each], self.layer)
        count = next(len(value) for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        outputs, found = [], []
        for module, rows in zip(self.each, self.blend.places(count), strict=True):
            if len(rows) == count:
                return cast(Tensor, module(*args, **kwargs))
            if len(rows):
                named = {name: own(value, rows, count) for name, value in kwargs.items()}
                outputs.append(module(*[own(value, rows, count) for value in args], **named))
                found.append(rows)
        return torch.cat(outputs)[torch.cat(found).argsort()]

    # Hugging Face code reads these two attributes of a wrapped module, as those of a placement.
    @property
    def weight(self) -> Tensor:
        return weight_of(self.each[0])

    @property
    def bias(self) -> Tensor | None:
        return cast(Tensor | None, self.each[0].bias)


def own(value: Any, rows: Tensor, count: int) -> Any:
    """These rows of `value`, if it is a tensor of `count` rows; else `value`."""
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == count else value


def frozen_weights(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """The frozen parameters of the model as it comes, under the paths that they had: `(path, module, name, value)`."""
    if not isinstance(model, Placement):
        for name, parameter in model._parameters.items():
            if parameter is not None and not parameter.requires_grad:
                yield f"{path}.{name}".lstrip("."), model, name, parameter
    for name, child in model._modules.items():
        if child is not None and isinstance(model, Placement) <= (name == "host"):
            yield from frozen_weights(child, path if isinstance(model, Placement) else f"{path}.{name}")


def share_frozen_weights(models: Sequence[nn.Module]) -> str | None:
    """Let all `models` have the frozen parameters of the first one; the name of one that differs, if any does."""
    first = {path: parameter for path, _, _, parameter in frozen_weights(models[0])}
    for model in models[1:]:
        for path, module, name, parameter in list(frozen_weights(model)):
            if path not in first:  # trained in the first model, or it has no such weight
                continue
            if first[path].shape != parameter.shape or not torch.equal(first[path], parameter):
                return path
            module._parameters[name] = first[path]
    return None


def quantised_otherwise(one: nn.Module, other: nn.Module) -> str | None:
    """What is quantised in another way in `other` than in `one`; `None` if nothing is."""
    first = {path: module for path, module, name, _ in frozen_weights(one) if name == "weight"}
    for path, module, name, _ in frozen_weights(other):
        pair = module, first.get(path)
        if name != "weight" or None in pair or not any(isinstance(each, QuantisedLinear) for each in pair):
            continue
        mine, theirs = form(first[path]), form(module)
        for part in mine | theirs:
            ours, its = mine.get(part), theirs.get(part)
            if isinstance(ours, Tensor) and isinstance(its, Tensor):
                if ours.dtype != its.dtype or not torch.equal(ours, its):
                    return f"{path} has another {part}"
            elif ours != its:
                values = ["a tensor" if isinstance(value, Tensor) else value for value in (its, ours)]
                return f"{path} has {part} {values[0]}, not {values[1]}"
    return None


def form(module: nn.Module) -> dict[str, Any]:
    """What gives the bytes of a module's weight their values, by name."""
    kind = {"class": type(module).__name__, "compute_dtype": getattr(module, "compute_dtype", None)}
    return kind | dict(module.named_buffers(recurse=False))


def several_blocker(model: nn.Module) -> str | None:
    """Why `model` cannot stand beside others in one; `None` if it can."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return "all its weights were trained, and none is shared with others"
    for module in model.modules():
        if parametrize.is_parametrized(module):
            return "it moves all weights at once, and has no place of its own in a layer"
        if isinstance(module, SoftPrompt):
            return "a soft prompt makes the input longer, so that all that follows is its own"
    return None


def rows_blocker(model: nn.Module) -> str | None:
    """Why the rows of a model of several adapters cannot each go through their own; `None` if they can."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in ("deberta", "deberta-v2"):
        return None
    tables = r"pos_\w+|encoder\.LayerNorm" + ("|query_proj|key_proj" if getattr(config, "share_att_key", False) else "")
    for name, module in model.named_modules():
        if isinstance(module, Several) and re.search(rf"(^|\.)({tables})$", name):
            return f"{name} also computes DeBERTa's table of distances, which all rows share"
    return None


def join_several(models: Sequence[Model]) -> tuple[Model, Blend]:
    """One model of several that share their frozen weights (`share_frozen_weights`), and what it does with them.

    The models may hold additions of different methods, but are of one class.
    """
    blend = Blend(len(models))
    return cast(Model, join(models, blend, "")), blend


def layer_name(name: str) -> str | None:
    """The name of the layer that a module of this name is in; `None` outside of all layers."""
    layer = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
    return layer and layer[0]


def join(modules: Sequence[nn.Module], blend: Blend, name: str) -> nn.Module:
    """One module for those that several models have under one name: that of all, or `Several`."""
    first = modules[0]
    if have_same_parameters(module.parameters() for module in modules):
        return first
    kinds = {(type(module), tuple(module._modules)) for module in modules}
    whole = len(kinds) > 1 or isinstance(first, Placement) or any(isinstance(c, HOLDERS) for c in first.children())
    if whole or not have_same_parameters(module.parameters(recurse=False) for module in modules):
        return Several(modules, blend, blend.layer_of(layer_name(name)))
    copied = copy.copy(first)  # not a deep copy: what is shared stays shared
    copied._modules = {}
    for child, module in first._modules.items():
        path = f"{name}.{child}".lstrip(".")
        each = [one._modules[child] for one in modules]
        copied._modules[child] = module and join([one for one in each if one is not None], blend, path)
    return copied
