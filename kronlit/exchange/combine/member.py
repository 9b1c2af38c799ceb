"""One adapter among several: the matrices that it adds to weights, and what else of the model it has trained."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from os.path import exists, isfile, join
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters import Delta, collapse, placements
from kronlit.adapters.addition import holds_additions
from kronlit.adapters.dense_change import dense_change
from kronlit.adapters.inject import check_merge, replace
from kronlit.adapters.transaction import INJECTED
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import (
    CONFIG,
    TENSORS,
    AdapterConfig,
    adapter_config,
    read_json,
    read_tensors,
    with_one_expert,
    write_adapter,
)
from kronlit.exchange.class_names import peft_base, peft_class_names, real_names
from kronlit.exchange.load import load_adapter, local_folder, plain_model
from kronlit.exchange.own_method import Cure
from kronlit.exchange.peft.read import base_model, load_peft, read_peft
from kronlit.exchange.peft.write import PREFIX
from kronlit.exchange.peft.write import TENSORS as PEFT_TENSORS
from kronlit.exchange.saved_run import saved_run
from kronlit.exchange.trained import TrainedRun
from kronlit.methods import Method, Structured
from kronlit.modules.quantisation import Quantisation
from kronlit.structured import Dense, StructuredLinear

ENSEMBLE = (
    "What does not merge cannot be added up; an ensemble of outputs is for that: "
    "`kronlit test|predict --adapters ... --ensemble ...`."
)
COMBINING = Cure("leave it out", "if you trust it, download the folder and give its path")


@dataclass(frozen=True)
class AdapterFile:
    """An adapter's folder before anything is loaded.

    Args:
        source: what the user calls it.
        folder: where it is.
        content: what its adapter_config.json has.
        config: the same as kronlit's own; `None` for an adapter of PEFT's.
        trusted: whether it may name a module to import, as what is on this machine may.
    """

    source: str
    folder: Path
    content: dict[str, Any]
    config: AdapterConfig | None
    trusted: bool

    @property
    def plm(self) -> str:
        """Hub id or folder of the pre-trained model."""
        return (peft_base(self.content) or "") if self.config is None else self.config.plm

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes, if they have names."""
        if self.config is None:
            return peft_class_names(self.folder / PEFT_TENSORS, self.content)
        return real_names(self.config.labels)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, under the names of a model in which nothing is wrapped."""
        file = PEFT_TENSORS if self.config is None else TENSORS
        found = read_tensors(self.folder / file).items()
        return {re.sub(r"\.(host|base_layer)\.", ".", name.removeprefix(PREFIX)): tensor for name, tensor in found}

    def plain_model(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        """The model that it goes on, without it, and what of it is newly drawn, as its files lack it."""
        if self.config is not None:
            return plain_model(self.config, str(self.folder / CONFIG))
        _, own = read_peft(self.folder, self.content)
        return base_model(self.folder, self.content, own, self.labels)

    def put_into(self, model: PreTrainedModel) -> None:
        """Put the adapter into its plain model."""
        if self.config is None:
            load_peft(self.folder, self.content, model, Quantisation())
        else:
            load_adapter(self.folder, self.content, model, self.trusted, Quantisation())


@dataclass(frozen=True)
class Member:
    """An adapter as matrices beside weights.

    Args:
        file: where it is from.
        parts: methods that add such matrices.
        deltas: by the name of the module, what they add to its weight.
        own: by name in the plain model, the parameters of the model itself that it has trained.
    """

    file: AdapterFile
    parts: tuple[Method, ...]
    deltas: dict[str, Delta]
    own: dict[str, Tensor]


def open_file(source: str, scratch: Path) -> AdapterFile:
    """The adapter in a folder, of a run or on the hub.

    Args:
        source: the folder of an adapter or a run, a checkpoint, or an id on the hub.
        scratch: a folder to write a run's adapter to.

    Raises:
        ValueError: if there is none, or one on the hub names something to import.
    """
    here = exists(source)
    try:
        folder = write_of_run(source, scratch) if here and not isfile(join(source, CONFIG)) else local_folder(source)
    except UserError as error:
        raise UserError(re.sub("`(source|ckpt_path)`", "`adapters`", str(error))) from error
    if not (folder / CONFIG).is_file():
        raise UserError(f"`adapters` has {source!r}, which is no adapter: it has no {CONFIG}.")
    content, where = read_json(folder / CONFIG), str(folder / CONFIG)
    config = None if "peft_type" in content else adapter_config(content, where, here, COMBINING)
    return AdapterFile(source, folder, content, config, here)


def write_of_run(run: str, scratch: Path) -> Path:
    """Write the adapter of a run's best checkpoint to `scratch`, as `kronlit export` does."""
    trained = TrainedRun(opened := saved_run(run), opened.module())
    collapse(trained.model)
    write_adapter(scratch, trained.model, trained.adapter_config(with_one_expert(trained.method)))
    return scratch


@torch.no_grad()
def read_member(file: AdapterFile, model: PreTrainedModel, first: str) -> Member:
    """What an adapter does to `model`, which is as it was before afterwards.

    Args:
        file: the adapter.
        model: the plain model.
        first: the adapter whose model it is, for messages.

    Raises:
        ValueError: if it was trained on another model, or does not merge.
    """
    names = file.tensors().keys()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if name in names}
    try:
        file.put_into(model)
    except UserError as error:
        raise UserError(
            f"`adapters` has {file.source!r}, which does not fit the model of {first!r}: {error}"
        ) from error
    collapse(model)
    try:
        check_merge(model)
    except (TypeError, ValueError) as error:
        raise UserError(f"`adapters` has {file.source!r}, which does not merge: {error} {ENSEMBLE}") from error
    found = dict(placements(model))
    plain = all(isinstance(each, Delta) for each in found.values())
    dense = {} if plain else {name: dense_change(each) for name, each in found.items()}
    replace(model, {id(each): each.host for each in found.values()})
    if holds_additions(model):
        kind = type(vars(model)[INJECTED]).__name__
        raise UserError(f"`adapters` has {file.source!r}, whose {kind} is no matrix beside a weight. {ENSEMBLE}")
    own = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad or name in before}
    for name, (_, bias) in dense.items():
        if bias is not None:
            key = f"{name}.bias"
            own[key] = own.get(key, model.get_parameter(key).detach()) + bias.float()
            before.setdefault(key, model.get_parameter(key).detach().clone())
    restore(model, before)
    if plain:
        deltas = {name: each for name, each in found.items() if isinstance(each, Delta)}
        return Member(file, plain_parts(file) if deltas else (), deltas, own)
    deltas = {name: dense_delta(model.get_submodule(name), change) for name, (change, _) in dense.items()}
    return Member(file, (at_modules(partial(Dense, std=0.0), deltas),), deltas, own)


def restore(model: PreTrainedModel, before: dict[str, Tensor]) -> None:
    """Make a plain, frozen model of `model` again, with the parameters `before`."""
    vars(model).pop(INJECTED, None)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if name in before:
            parameter.copy_(before[name])


def plain_parts(file: AdapterFile) -> tuple[Method, ...]:
    """Methods that add what an adapter adds, if that is matrices alone."""
    if file.config is not None:
        return (with_one_expert(file.config.method),)
    changes, _ = read_peft(file.folder, file.content)

    def kind(name: str) -> str:
        return repr((changes[name].make, changes[name].scale))

    groups = [list(names) for _, names in groupby(sorted(changes, key=kind), kind)]
    return tuple(at_modules(changes[names[0]].make, names, changes[names[0]].scale or 1.0) for names in groups)


def at_modules(matrix: Any, names: Sequence[str] | dict[str, Any], scale: float = 1.0) -> Structured:
    """The method that adds a matrix to each module of these names."""
    return Structured(matrix=matrix, scale=scale, sites=tuple(map(re.escape, names)))


def dense_delta(host: nn.Module, change: Tensor) -> Delta:
    """The placement that adds the dense matrix `change` to the weight of `host`."""
    return delta_of(host, partial(Dense, std=0.0), {"weight": change})


def delta_of(host: nn.Module, matrix: Any, values: dict[str, Tensor]) -> Delta:
    """The placement that adds a matrix with these `values`, of which one has its width and one its height."""
    rows, columns = len(list(values.values())[-1]), next(iter(values.values())).shape[1]
    delta = Delta(host, columns, rows, matrix)
    made: StructuredLinear = delta.matrix
    made.load_state_dict(values)
    return delta.eval()
