"""Several models that share their frozen weights, as one model that takes the rows of all in one batch."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kronlit.adapters.prompt import SoftPrompt
from kronlit.structured import StructuredLinear


class Rows:
    """Whose rows stand where in a batch.

    Attributes:
        counts: rows of each model, one model after the other.
        current: the model whose own modules compute now; `None` where what is shared does.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.current: int | None = None

    def begin(self, counts: list[int]) -> None:
        """Begin a batch that has so many rows of each model."""
        self.counts, self.current = counts, None

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Each model's rows.

        Raises:
            ValueError: if the first dimension is not that of all rows, as of a table that serves them all.
        """
        if not tensor.ndim or len(tensor) != sum(self.counts):
            raise ValueError(
                f"a tensor of {tuple(tensor.shape)} does not hold the {sum(self.counts)} rows of all models."
            )
        return tensor.split(self.counts)


class OwnModules(nn.Module):
    """One module of each model, of which each computes its own model's rows.

    Args:
        modules: one for each model, alike but for what was trained.
        rows: whose rows are whose; read at each call.

    Shape:
        The first argument has all rows, and so do other tensors, or they serve all rows and go to all modules.
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
        """That of the first: Hugging Face code reads its dtype (T5's `wo`)."""
        return self.each[0].weight  # type: ignore[return-value]

    def added_to(self, y: Tensor, x: Tensor, scale: float) -> Tensor:
        """`y` plus what each model's matrix adds to it."""
        matrices = [module for module in self.each if isinstance(module, StructuredLinear)]
        parts = zip(matrices, self.rows.split(y), self.rows.split(x), strict=True)
        return torch.cat([matrix.added_to(own_y, own_x, scale) for matrix, own_y, own_x in parts])

    def summand(self) -> None:
        """None: the matrices of several models are not added to one weight."""


def share_frozen(models: Sequence[nn.Module]) -> None:
    """Let the frozen weights of the first of `models` serve in all that have the same, so that they exist once.

    The parameters stay each model's own, only what they hold is shared: one that is moved elsewhere leaves the others.
    """
    first = dict(named_parameters(models[0]))
    for model in models[1:]:
        own: dict[int, nn.Parameter] = {}  # so that what is tied stays tied
        for (path, name), parameter in named_parameters(model):
            other = first.get((path, name))
            if other is None or other.requires_grad or parameter.requires_grad or is_same_frozen(other, parameter):
                continue
            if other.dtype == parameter.dtype and other.device == parameter.device and torch.equal(other, parameter):
                shared = own.setdefault(id(parameter), nn.Parameter(other.detach(), requires_grad=False))
                model.get_submodule(path)._parameters[name] = shared


def is_same_frozen(one: nn.Parameter, other: nn.Parameter) -> bool:
    """Whether two parameters are one, or hold the same memory and are frozen."""
    if one is other:
        return True
    frozen = not (one.requires_grad or other.requires_grad)
    return frozen and one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.device == other.device


def named_parameters(model: nn.Module) -> Iterable[tuple[tuple[str, str], nn.Parameter]]:
    """All parameters, those of several places each time, by the path of their module and their own name."""
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False):
            yield (path, name), parameter


def join_modules(modules: Sequence[nn.Module], rows: Rows) -> nn.Module:
    """One module that computes what each of `modules`, of the same structure, does with its own rows.

    What all share computes all rows at once. A module with parameters of its own that differ computes each model's rows
    by themselves; of a placement, that is what was added to its host.
    """
    first = modules[0]
    if have_same_parameters(module.parameters() for module in modules):
        return first
    whole = isinstance(first, StructuredLinear) or any(isinstance(child, HOLDERS) for child in first.children())
    if whole or not have_same_parameters(module.parameters(recurse=False) for module in modules):
        return OwnModules(modules, rows)
    # Not a deep copy: what is shared stays shared, and what each model has of its own is still that model's.
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
    if getattr(model.config, "model_type", None) == "deberta-v2":
        return "DeBERTa projects and drops a table of distances, which has no rows"
    if any(rate for name, rate in vars(model.config).items() if name.endswith(("layerdrop", "drop_path_rate"))):
        return "whole layers are dropped at random"
    for module in model.modules():
        if module._compiled_call_impl is not None:
            return "its layers are compiled"
        if parametrize.is_parametrized(module):
            return "all its weights move"
        if isinstance(module, SoftPrompt):
            return "a soft prompt makes all that follows its own"
    return None


HOLDERS = (nn.ParameterList, nn.ParameterDict)
"""Modules that hold parameters for the one around them, and are not called."""


def have_same_parameters(parameters: Iterable[Iterable[nn.Parameter]]) -> bool:
    """Whether all models have the same parameters here."""
    first, *others = (list(each) for each in parameters)
    return all(len(own) == len(first) and all(map(is_same_frozen, first, own)) for own in others)
