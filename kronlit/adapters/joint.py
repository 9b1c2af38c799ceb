"""Joins several models that share their frozen weights into one, which computes the rows of all in one batch."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kronlit.adapters.linear import weight_of
from kronlit.adapters.placement import Placement
from kronlit.adapters.prompt import SoftPrompt
from kronlit.adapters.quantised import QuantisedLinear
from kronlit.structured import StructuredLinear


class Rows:
    """Which rows of a batch belong to which model.

    Attributes:
        counts: number of rows of each model, in the order of the models.
        current: the model whose own modules compute now; `None` while shared modules compute.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.current: int | None = None

    def begin(self, counts: list[int]) -> None:
        """Begin a batch with this number of rows for each model."""
        self.counts, self.current = counts, None

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Each model's rows.

        Raises:
            ValueError: if the first dimension is not the number of all rows, as in a table that all rows share.
        """
        if not tensor.ndim or len(tensor) != sum(self.counts):
            raise ValueError(
                f"a tensor of {tuple(tensor.shape)} does not hold the {sum(self.counts)} rows of all models."
            )
        return tensor.split(self.counts)


class OwnModules(nn.Module):
    """One module for each model; each computes the rows of its own model.

    Args:
        modules: one for each model; they differ only in what was trained.
        rows: which rows belong to which model; read at each call.

    Shape:
        The first argument has all rows. Another tensor has all rows too, or goes to every module as it is.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: Rows) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)
        self.rows = rows

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        positional = [self.rows.split(args[0]), *map(self._share_out, args[1:])]
        named = {name: self._share_out(value) for name, value in kwargs.items()}
        outputs = []
        for index, module in enumerate(self.each):
            self.rows.current = index
            own = [values[index] for values in positional]
            outputs.append(module(*own, **{name: values[index] for name, values in named.items()}))
        self.rows.current = None
        return torch.cat(outputs)

    def _share_out(self, value: Any) -> Sequence[Any]:
        if isinstance(value, Tensor) and value.ndim and len(value) == sum(self.rows.counts):
            return self.rows.split(value)
        return [value] * len(self.each)

    @property
    def weight(self) -> Tensor:
        """The weight of the first module: Hugging Face code reads its dtype (T5's `wo`)."""
        return weight_of(self.each[0])

    def added_to(self, y: Tensor, x: Tensor, scale: float) -> Tensor:
        """`y` plus what each model's matrix adds to it."""
        matrices = [module for module in self.each if isinstance(module, StructuredLinear)]
        parts = zip(matrices, self.rows.split(y), self.rows.split(x), strict=True)
        return torch.cat([matrix.added_to(own_y, own_x, scale) for matrix, own_y, own_x in parts])

    def summand(self) -> None:
        """`None`: the matrices of several models cannot be added to one weight."""


def share_frozen(models: Sequence[nn.Module]) -> None:
    """Store the frozen weights that `models` have in common only once, as those of the first model.

    Each model keeps its own parameters and only their memory is shared. A model that is moved to another device gets
    its own memory again.
    """
    first = dict(named_parameters(models[0]))
    for model in models[1:]:
        own: dict[int, nn.Parameter] = {}  # keeps tied parameters tied
        for (path, name), parameter in named_parameters(model):
            other = first.get((path, name))
            if other is None or other.requires_grad or parameter.requires_grad or is_same_frozen(other, parameter):
                continue
            if other.dtype == parameter.dtype and other.device == parameter.device and torch.equal(other, parameter):
                shared = own.setdefault(id(parameter), nn.Parameter(other.detach(), requires_grad=False))
                model.get_submodule(path)._parameters[name] = shared


def is_same_frozen(one: nn.Parameter, other: nn.Parameter) -> bool:
    """Whether two parameters are the same object, or are both frozen and share their memory."""
    if one is other:
        return True
    frozen = not (one.requires_grad or other.requires_grad)
    return frozen and one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.device == other.device


def named_parameters(model: nn.Module) -> Iterable[tuple[tuple[str, str], nn.Parameter]]:
    """All parameters with the path of their module and their own name; a tied one comes once for each place."""
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False):
            yield (path, name), parameter


def join_modules(modules: Sequence[nn.Module], rows: Rows) -> nn.Module:
    """One module that computes what each of `modules`, of the same structure, does with its own rows.

    A module that all models share computes all rows at once. A module whose parameters differ between the models
    computes each model's rows separately; in a placement that calls host and additions apart, these are the additions.
    """
    first = modules[0]
    if have_same_parameters(module.parameters() for module in modules):
        return first
    whole = isinstance(first, StructuredLinear) or any(isinstance(child, HOLDERS) for child in first.children())
    whole = whole or (isinstance(first, Placement) and not first.separable)
    if whole or not have_same_parameters(module.parameters(recurse=False) for module in modules):
        return OwnModules(modules, rows)
    # Not a deep copy: shared modules stay shared, and each model's own modules still belong to that model.
    copied = copy.copy(first)
    copied._modules = {
        name: None if child is None else join_modules([module.get_submodule(name) for module in modules], rows)
        for name, child in first._modules.items()
    }
    return copied


def joint_blocker(model: nn.Module) -> str | None:
    """Why `model` cannot be joined with others; `None` if it can."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return "it has no frozen weights to share"
    if getattr(model.config, "model_type", None) in ("deberta", "deberta-v2"):
        return "DeBERTa projects and drops a table of distances, which has no rows"
    if any(rate for name, rate in vars(model.config).items() if name.endswith(("layerdrop", "drop_path_rate"))):
        return "whole layers are dropped at random"
    for module in model.modules():
        if module._compiled_call_impl is not None:
            return "its layers are compiled"
        if parametrize.is_parametrized(module):
            return "all its weights move"
        if isinstance(module, QuantisedLinear):
            return "its frozen weights are quantised"
        if isinstance(module, SoftPrompt):
            return "a soft prompt makes all that follows its own"
    return None


HOLDERS = (nn.ParameterList, nn.ParameterDict)
"""Modules that only hold parameters for their parent, and are never called themselves."""


def have_same_parameters(parameters: Iterable[Iterable[nn.Parameter]]) -> bool:
    """Whether these modules have the same parameters in all models."""
    first, *others = (list(each) for each in parameters)
    return all(len(own) == len(first) and all(map(is_same_frozen, first, own)) for own in others)
