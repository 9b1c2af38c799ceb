"""Opens a frozen adapter, or several, for what is trained to stand on (MAD-X, `kronlit.adapters.below`)."""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from kronlit.adapters import Placement, collapse, placements
from kronlit.adapters.addition import Addition, holds_additions
from kronlit.adapters.below import put_below, take_out
from kronlit.adapters.quantised import QuantisedLinear, first_numbers
from kronlit.adapters.several import Blend
from kronlit.adapters.state import adapter_state, fingerprint, with_current_names
from kronlit.adapters.transaction import INJECTED
from kronlit.config.user_error import UserError, user_errors
from kronlit.exchange.adapter_folder import (
    BELOW,
    CONFIG,
    TENSORS,
    AdapterConfig,
    adapter_config,
    model_class,
    read_json,
    read_tensors,
)
from kronlit.exchange.own_method import LOADING, Cure
from kronlit.exchange.peft.read import load_peft, read_peft
from kronlit.methods import inject
from kronlit.methods.base import group
from kronlit.modules.plm import load_model
from kronlit.modules.quantisation import Quantisation


@dataclass(frozen=True)
class BelowAdapter:
    """A frozen adapter for others to stand on.

    Args:
        source: what the user calls it.
        folder: where it is, kronlit's own or PEFT's.
        trusted: whether it may name a module to import, as what is on this machine may.
        cure: what to tell the user if it names one all the same.
    """

    source: str
    folder: Path
    trusted: bool = True
    cure: Cure = LOADING

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[None]:
        """Put the adapter below what is added to `model` meanwhile. The model keeps its files, to carry them along."""
        assert isinstance(model, PreTrainedModel)
        own = self.placed(model)
        files = {path.name: path.read_bytes() for path in (self.folder / CONFIG, *self.folder.glob("*.safetensors"))}
        yield
        with user_errors(about=f"{self.source!r} is below what is added, "):
            put_below(model, [own])
        vars(model)[BELOW] = files

    def placed(self, model: PreTrainedModel) -> list[Placement]:
        """What the adapter adds to modules of `model`, with its values; the model is as it was before.

        Raises:
            ValueError: if it was trained on another model, or has trained more than what it adds and a head.
        """
        try:
            return self._placed(model)
        except ValueError as error:
            raise UserError(f"{self.source!r} cannot be below others: {error}") from error

    def _placed(self, model: PreTrainedModel) -> list[Placement]:
        if (self.folder / BELOW).exists():
            raise UserError("it is on another adapter itself.")
        content = read_json(self.folder / CONFIG)
        head = {id(parameter) for parameter in group(model, "head")}
        config, names = None, set[str]()
        if "peft_type" in content:
            _, saved = read_peft(self.folder, content)
            check_own(name for name, p in model.named_parameters() if name in saved and id(p) not in head)
            load_peft(self.folder, content, model, Quantisation(), own=False)
        else:
            config = adapter_config(content, str(self.folder / CONFIG), self.trusted, self.cure)
            names = put_into(model, config, self.folder, head)
        collapse(model)
        found = take_out(model)
        if not found or holds_additions(model):
            kind = content["peft_type"] if config is None else type(config.method).__name__
            raise UserError(f"a {kind} adds nothing to modules.")
        vars(model).pop(INJECTED)
        model.requires_grad_(False)
        if config is not None:
            check_model(model, config, names)
        return found


@dataclass(frozen=True)
class SeveralBelow:
    """Several frozen adapters, whose outputs are mixed, for others to stand on.

    Args:
        adapters: the adapters.
        blend: what is done with them.
    """

    adapters: Sequence[BelowAdapter]
    blend: Blend

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[None]:
        """Put the adapters below what is added to `model` meanwhile."""
        assert isinstance(model, PreTrainedModel)
        each = [one.placed(model) for one in self.adapters]
        yield
        put_below(model, each, self.blend)


def put_into(model: PreTrainedModel, config: AdapterConfig, folder: Path, head: Container[int]) -> set[str]:
    """Put an adapter of kronlit's own into `model`, without its head; also returns the names of its tensors."""
    tensors = read_tensors(folder / TENSORS)
    inject(model, config.method)
    added = {id(p) for module in model.modules() if isinstance(module, Addition) for p in module.added()}
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) not in added]
    check_own(name for name, p in trained if id(p) not in head)
    within = tuple(f"{name}." for name, _ in placements(model))
    state = with_current_names(model, tensors)
    state = {name: tensor for name, tensor in state.items() if name.startswith(within)}
    own = {name: tensor for name, tensor in adapter_state(model).items() if name.startswith(within)}
    for name in sorted(own.keys() | state.keys()):
        shapes = [tuple(one[name].shape) if name in one else "none" for one in (state, own)]
        if shapes[0] != shapes[1]:
            raise UserError(f"it has {name} {shapes[0]}, and on this {type(model).__name__} there is {shapes[1]}.")
    model.load_state_dict(state, strict=False)
    return set(tensors)


def check_own(trained: Iterator[str]) -> None:
    """Raise `ValueError` if an adapter has trained parameters of the model itself."""
    if name := next(trained, None):
        raise UserError(
            f"it has also trained {name}, a weight of the model itself, and only what was added can be there: train "
            "one without (`model.method.trains`)."
        )


@torch.no_grad()
def check_model(model: PreTrainedModel, config: AdapterConfig, trained: set[str]) -> None:
    """Raise `ValueError` unless an adapter was trained on the frozen weights of `model`, which has nothing added.

    Args:
        model: the model, maybe with another head than the adapter's.
        config: what the adapter's folder says.
        trained: the names of what the adapter has trained.
    """
    head = {id(p) for p in group(model, "head")}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(id(parameter) in head or name in trained)
    found = fingerprint(model)
    model.requires_grad_(False)
    if found == config.fingerprint:
        return
    fault = f"its model has fingerprint {config.fingerprint}, and this one {found}"
    if config.model_class != type(model).__name__ and config.plm:  # the same body may have other parts around it
        other, _ = load_model(model_class(config.model_class, "adapter_config.json"), config.plm)
        ours, theirs = (dict(one.base_model.named_parameters()) for one in (model, other))
        names = [name for name in ours.keys() & theirs.keys() if ".pooler." not in f".{name}"]
        before = {id(one.weight): one.start for one in model.modules() if isinstance(one, QuantisedLinear)}
        firsts = {name: before.get(id(ours[name]), first_numbers(ours[name])) for name in names}
        if names and all(torch.equal(firsts[name], first_numbers(theirs[name])) for name in names):
            return
        fault = f"the weights of its {config.model_class} are not those of this {type(model).__name__}"
    raise UserError(f"it was trained on {config.plm!r}: {fault}. Only adapters of one pre-trained model go together.")
