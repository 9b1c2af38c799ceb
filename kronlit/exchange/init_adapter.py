"""A training that starts from an adapter."""

from dataclasses import is_dataclass, replace
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from kronlit.adapters import Delta, placements
from kronlit.checkpoint import adapter_state, in_names_of
from kronlit.exchange.adapter_folder import CONFIG, TENSORS, adapter_config, read_json, read_tensors
from kronlit.exchange.from_peft import read_peft
from kronlit.exchange.load import local
from kronlit.methods import Method
from kronlit.modules import FrozenPLM


class InitAdapter(Callback):
    """Starts a training from an adapter that `kronlit export` or PEFT wrote.

    All that was added is taken, and of what else is trained, such as a head, what has the same name and shape.

    Args:
        source: the folder, or the id of a repository of the hub.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FrozenPLM)
        assert pl_module.model is not None
        taken, left = init_adapter(pl_module.model, pl_module.method, self.source)
        rest = f"; it leaves out {', '.join(left)}, of another name or shape here" if left else ""
        rank_zero_only(print)(f"starting from {self.source}: {taken} tensors{rest}.")


@torch.no_grad()
def init_adapter(model: nn.Module, method: Method, source: str) -> tuple[int, list[str]]:
    """Put the adapter in `source` in the place of what `method` has added to `model`.

    Returns:
        How many tensors were taken, and the names of those that were not.

    Raises:
        ValueError: if what was added has another form there.
    """
    try:
        folder = local(source)
    except ValueError as error:
        raise ValueError(str(error).replace("`source`", "`init_adapter`")) from error
    if not (folder / CONFIG).is_file():
        raise ValueError(
            f"`init_adapter`={source!r} is no adapter's folder: it has no {CONFIG}, as `export` writes it."
        )
    content = read_json(folder / CONFIG)
    if "peft_type" in content:
        state = of_peft(model, folder, content)
    else:
        theirs = adapter_config(content, str(folder / CONFIG)).method
        if is_dataclass(theirs) and type(theirs) is type(method):
            theirs = replace(theirs, trains=method.trains)
        if repr(theirs) != repr(method):
            raise ValueError(f"`init_adapter`={source!r} is of {theirs}, and `model.method` is {method}.")
        state = in_names_of(model, read_tensors(folder / TENSORS))
    own = adapter_state(model)
    added = tuple(f"{name}." for name, _ in placements(model))
    for name in {*own, *state}:
        if name.startswith(added) and (name not in own or name not in state or own[name].shape != state[name].shape):
            shapes = [tuple(one[name].shape) if name in one else "none" for one in (state, own)]
            raise ValueError(f"`init_adapter`={source!r} has {name} {shapes[0]}, and `model.method` has {shapes[1]}.")
    taken = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(taken, strict=False)
    return len(taken), sorted(state.keys() - taken.keys())


def of_peft(model: nn.Module, folder: Path, content: dict[str, object]) -> dict[str, Tensor]:
    """A PEFT folder's tensors under their names here; another scale than the one here goes into the last part."""
    changes, state = read_peft(folder, content)
    places = dict(placements(model))
    for name, change in changes.items():
        place = places.get(name)
        if not isinstance(place, Delta) or not isinstance(place.matrix, change.kind) or isinstance(place.scale, Tensor):
            has = f"a {type(place.matrix).__name__}" if isinstance(place, Delta) else "no such matrix"
            raise ValueError(
                f"`init_adapter`={str(folder)!r} has a {change.kind.__name__} at {name}, and `model.method` {has}."
            )
        *_, last = change.parts
        parts = change.parts | {last: change.parts[last] * (change.scale / place.scale)}
        state |= {f"{name}.matrix.{part}": tensor for part, tensor in parts.items()}
    return state
