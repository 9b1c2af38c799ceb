"""Computes the training passes of several runs as one pass of all their rows through the shared frozen weights."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.adapters.joint import Rows, join_modules, joint_blocker, share_frozen
from kronlit.experimental.side_by_side.dropout import OwnDropout
from kronlit.experimental.side_by_side.turns import Turns
from kronlit.modules import FrozenPLM
from kronlit.modules.batch import Batch
from kronlit.modules.random_state import random_state, restore_random_state


@dataclass
class Pass:
    """A run's request for the training pass of its batch."""

    module: FrozenPLM
    batch: Batch


@dataclass
class Part:
    """A run's part of the results of a joint pass: `inner` in the graph of that pass, `outer` as the run sees it."""

    inner: list[Tensor]
    outer: list[Tensor]
    others: list[bool]
    """Which runs of the pass still need their backward pass; all parts of a pass share this list."""
    index: int


class SideBySide(Callback):
    """Computes a run's training passes together with those of other runs. The run does all else by itself.

    Args:
        group: the group of runs.
        settings: the settings that the loss depends on; runs are computed together only if theirs are equal.
    """

    def __init__(self, group: "Group", settings: str) -> None:
        self.group = group
        self.settings = settings
        self.parts: list[Part] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FrozenPLM)
        if obstacle := self.group.join_blocker(pl_module, self.settings):
            print(f"{obstacle}: this run trains by itself, while those beside it wait.")
            return
        self.group.add(pl_module, self.settings)
        pl_module.joint_pass = partial(self._pass, pl_module)

    def _pass(self, module: FrozenPLM, batch: Batch) -> tuple[Tensor, Tensor | None]:
        part = self.group.turns.meet(Pass(module, batch))
        self.parts.append(part)
        losses, *others = part.outer
        return losses, others[0] if others else None

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.parts:
            parts, self.parts = self.parts, []
            self.group.turns.meet(parts)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave(pl_module)

    def _leave(self, module: LightningModule) -> None:
        assert isinstance(module, FrozenPLM)
        if module.joint_pass is not None:
            module.joint_pass = None
            for part in self.parts:
                part.others[part.index] = False  # do not keep the graph for a run that has left
            self.parts = []
            self.group.remove(module)


class Group:
    """Runs of one method on one pre-trained model, whose training passes are computed as one.

    Attributes:
        turns: the turns of the runs' threads.
    """

    turns: Turns

    def __init__(self) -> None:
        self.modules: list[FrozenPLM] = []
        self.settings = ""
        self._joint: Joint | None = None
        self._told = False

    def join_blocker(self, module: FrozenPLM, settings: str) -> str | None:
        """Why a run cannot join the group; `None` if it can."""
        assert module.model is not None
        if self.modules and settings != self.settings:
            return "its model is not set as that of the runs beside it"
        if module.padding is None:
            return f"the batches of {type(module).__name__} cannot be one"
        if module.gradient_checkpointing:
            return "`model.gradient_checkpointing`=True computes activations again"
        return joint_blocker(module.model)

    def add(self, module: FrozenPLM, settings: str) -> None:
        """Let a run join. It shares the frozen weights of the first run from then on."""
        self.modules.append(module)
        self.settings = settings
        share_frozen([each.model for each in (self.modules[0], module) if each.model is not None])

    def remove(self, module: FrozenPLM) -> None:
        """Let a run leave, and drop all that is kept for it."""
        self.modules.remove(module)
        self._joint = None

    def serve(self, asked: dict[int, Any]) -> dict[int, Any]:
        """Compute what the runs ask for: passes, and gradients of earlier passes. A failure answers with the error."""
        passes = {i: request for i, request in asked.items() if isinstance(request, Pass)}
        backs = {i: request for i, request in asked.items() if i not in passes}
        answers: dict[int, Any] = dict.fromkeys(backs)
        try:
            backward([part for parts in backs.values() for part in parts])
        except Exception as error:  # part of the backward pass is done already, so it cannot be repeated
            answers = dict.fromkeys(backs, error)
        return answers | (self._run_passes(passes) if passes else {})

    def _run_passes(self, passes: dict[int, Pass]) -> dict[int, Any]:
        """Compute the passes as one. If that fails, for example for lack of memory, compute them one by one."""
        routers = {i: one.module.routing.generator for i, one in passes.items()}
        before = {i: (self.turns.surroundings[i].torch, router.get_state()) for i, router in routers.items()}
        try:
            return dict(self._forward(passes))
        except Exception as error:
            if len(passes) == 1:
                return dict.fromkeys(passes, error)
            if not self._told:
                print(f"{error!r} in a joint pass: such passes are computed one by one.")
                self._told = True
        answers: dict[int, Any] = {}
        for i, one in passes.items():
            self.turns.surroundings[i].torch, router = before[i]
            routers[i].set_state(router)
            answers |= self._run_passes({i: one})
        return answers

    def _forward(self, passes: dict[int, Pass]) -> dict[int, Part]:
        modules = [one.module for one in passes.values()]
        batches = [one.batch for one in passes.values()]
        if self._joint is None or self._joint.modules != modules:
            self._joint = Joint(modules)
        module, rows = self._joint.module, self._joint.rows
        rows.begin([len(batch["row"]) for batch in batches])
        batch, lengths = side_by_side(module, batches, self._joint.widths)
        members = list(passes)
        with OwnDropout(rows, lengths, lambda index: self._draws_of(members[index])):
            losses, log_probabilities = module.training_pass(batch)
        counts = [predictions(one) for one in batches]
        each = [list(losses.split(counts))]
        if log_probabilities is not None:
            each.append(list(log_probabilities.split(counts)))
        others = [True] * len(members)
        parts = {}
        for index, (member, *inner) in enumerate(zip(members, *each, strict=True)):
            outer = [tensor.detach().requires_grad_() for tensor in inner]
            parts[member] = Part(inner, outer, others, index)
        return parts

    @contextmanager
    def _draws_of(self, member: int) -> Iterator[None]:
        """Let torch draw a run's random numbers, and keep the run's state afterwards."""
        surroundings = self.turns.surroundings[member]
        restore_random_state([surroundings.torch], 0)
        yield
        surroundings.torch = random_state()


def backward(parts: Sequence[Part]) -> None:
    """Backpropagate the gradients of the runs through the joint passes."""
    outputs, gradients = [], []
    for part in parts:
        part.others[part.index] = False
        for inner, outer in zip(part.inner, part.outer, strict=True):
            if outer.grad is not None:
                outputs.append(inner)
                gradients.append(outer.grad)
    if outputs:
        torch.autograd.backward(outputs, gradients, retain_graph=any(any(part.others) for part in parts))


class Joint:
    """One module whose training pass computes those of several, each for its own rows.

    Args:
        modules: the modules to join.
    """

    def __init__(self, modules: list[FrozenPLM]) -> None:
        self.modules = modules
        self.rows = Rows()
        models = [module.model for module in modules if module.model is not None]
        self.widths = widths(models[0])
        self.module = copy.copy(modules[0])
        self.module._modules = self.module._modules | {"model": join_modules(models, self.rows)}


def predictions(batch: Batch) -> int:
    """The number of predictions for a batch: its target tokens if it has some, else its rows."""
    return int((batch["target_ids"] >= 0).sum()) if "target_ids" in batch else len(batch["row"])


def side_by_side(module: FrozenPLM, batches: Sequence[Batch], taken: set[int]) -> tuple[Batch, list[dict[int, int]]]:
    """Join the batches; for each of them, also returns a map from the padded length to its own length.

    Dropout recognises padded dimensions by their length. So a length that equals another dimension inside the model
    (`taken`) is padded further. If the model has no positions for that, the maps are empty, and a run's dropout is
    drawn for the padded length.
    """
    assert module.model is not None
    assert module.padding is not None
    names = [name for name in ("input_ids", "target_ids") if name in batches[0]]
    own = [[batch[name].shape[-1] for name in names] for batch in batches]
    longest = [max(lengths) for lengths in zip(*own, strict=True)]
    free = list(longest)
    for index in range(len(free)):
        while free[index] in {*taken, *free[:index]}:
            free[index] += 1
    positions = getattr(module.model.config, "max_position_embeddings", None)
    fits = free == longest or positions is None or max(free) <= positions - 2  # RoBERTa's positions begin at 2
    lengths = dict(zip(names, free if fits else longest, strict=True))
    batch: Batch = {}
    for name, first in batches[0].items():
        values = [one[name] for one in batches]
        if not isinstance(first, Tensor):
            batch[name] = [entry for value in values for entry in value]
            continue
        if name in module.padding:
            length = lengths["target_ids" if name == "target_ids" else "input_ids"]
            fill = module.padding[name]
            values = [F.pad(value, (0, length - value.shape[-1]), value=fill) for value in values]
        batch[name] = torch.cat(values)
    return batch, [dict(zip(free, each, strict=True)) if fits else {} for each in own]


def widths(model: nn.Module) -> set[int]:
    """Sizes of the dimensions of tensors inside the model, other than rows and tokens."""
    linear = {size for module in model.modules() if isinstance(module, nn.Linear) for size in module.weight.shape}
    heads = {getattr(model.config, name, 0) for name in ("num_attention_heads", "num_heads")} - {0}
    return linear | heads | {size // count for size in linear for count in heads}
