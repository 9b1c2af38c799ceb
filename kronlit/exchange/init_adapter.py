"""Starts a training from an adapter."""

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from transformers import PreTrainedModel

from kronlit.adapters import Placement, placements
from kronlit.adapters.auto_scale import AUTO_SCALE
from kronlit.adapters.state import adapter_state, fingerprint_below, with_current_names
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import CONFIG, TENSORS, adapter_config, read_json, read_tensors
from kronlit.exchange.class_names import class_names, output_layer, peft_class_names, real_names, rows_by_name
from kronlit.exchange.load import carries, is_here, local_folder
from kronlit.exchange.own_method import Cure
from kronlit.exchange.peft.change import PeftChange
from kronlit.exchange.peft.read import read_peft
from kronlit.exchange.peft.write import TENSORS as PEFT_TENSORS
from kronlit.methods import Method
from kronlit.methods.written import describe_method
from kronlit.modules import FrozenPLM, PromptClassification

STARTING = Cure("name that method as `model.method`", "if you trust it, download the folder and give its path")


class InitAdapter(Callback):
    """Starts a training, or an evaluation, from an adapter that `kronlit export` or PEFT wrote.

    It takes everything that was added. Of the other trained parameters it takes those of the same name and shape, and
    of a head with the same classes the rows by class name.

    Args:
        source: the folder, or the id of a repository of the hub.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.started = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def _start(self, pl_module: LightningModule) -> None:
        if self.started:  # what a fit has trained since is validated and tested as it is
            return
        self.started = True
        assert isinstance(pl_module, FrozenPLM)
        assert pl_module.model is not None
        words = pl_module.words if isinstance(pl_module, PromptClassification) else {}
        taken, left = init_adapter(pl_module.model, pl_module.method, self.source, pl_module.task.labels, words)
        rest = f"; it leaves out {', '.join(left)}, of another name, shape or classes here" if left else ""
        rank_zero_only(print)(f"starting from {self.source}: {taken} tensors{rest}.")


@torch.no_grad()
def init_adapter(
    model: PreTrainedModel,
    method: Method,
    source: str,
    labels: tuple[str, ...] = (),
    words: dict[str, str] | None = None,
) -> tuple[int, list[str]]:
    """Set what `method` has added to `model` to the adapter in `source`.

    Args:
        model: the model with what was added.
        method: the method that added it.
        source: the folder, or the id of a repository on the hub.
        labels: names of the classes, if `model` is not a classifier that knows them.
        words: for a prompt, the word that stands for each class.

    Returns:
        The number of tensors that were taken, and the names of those that were not.

    Raises:
        ValueError: if the adapter has another form, or its answers stand for other classes.
    """
    try:
        folder = local_folder(source)
    except ValueError as error:
        raise UserError(str(error).replace("`source`", "`init_adapter`")) from error
    if not (folder / CONFIG).is_file():
        raise UserError(f"`init_adapter`={source!r} is no adapter's folder: it has no {CONFIG}, as `export` writes it.")
    if carries(folder) and fingerprint_below(model) == "none":
        raise UserError(f"`init_adapter`={source!r} stands on an adapter: name that one, or another, as `below`.")
    content = read_json(folder / CONFIG)
    if "peft_type" in content:
        state = read_peft_state(model, folder, content)
        names, their_words = peft_class_names(folder / PEFT_TENSORS, content), {}
    else:
        config = adapter_config(content, str(folder / CONFIG), is_here(source), STARTING)
        theirs, names, their_words = config.method, real_names(config.labels), config.words
        if is_dataclass(theirs) and type(theirs) is type(method):
            theirs = replace(theirs, trains=method.trains)
        if describe_method(theirs) != describe_method(method):
            raise UserError(
                f"`init_adapter`={source!r} is of {describe_method(theirs)}, "
                f"and `model.method` is {describe_method(method)}."
            )
        state = with_current_names(model, read_tensors(folder / TENSORS))
    if not class_names(model):
        check_answers(names, their_words, labels, words or {}, source)
    state, others = match_head(model, state, names, source)
    own = adapter_state(model)
    added = tuple(f"{name}." for name, _ in placements(model))
    for name in {*own, *state}:
        if name.startswith(added) and (name not in own or name not in state or own[name].shape != state[name].shape):
            shapes = [tuple(one[name].shape) if name in one else "none" for one in (state, own)]
            raise UserError(f"`init_adapter`={source!r} has {name} {shapes[0]}, and `model.method` has {shapes[1]}.")
    taken = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(taken, strict=False)
    return len(taken), sorted(others | (state.keys() - taken.keys()))


def match_head(
    model: PreTrainedModel, state: dict[str, Tensor], theirs: tuple[str, ...], source: str
) -> tuple[dict[str, Tensor], set[str]]:
    """Reorder the rows of the output layer in `state` to the classes of `model`; also returns the names left out.

    An output layer of other classes is left out. If the classes have no names, it is taken as it is, with a message.
    """
    ours = class_names(model)
    layer = output_layer(model, len(ours)) if ours else None
    rows = {f"{layer}.weight", f"{layer}.bias"} & state.keys()
    if not rows or ours == theirs or len(state[min(rows)]) != len(ours):
        return state, set()
    if len(theirs) != len(ours):
        rank_zero_only(print)(
            f"{source} has no names of its classes: its output layer is taken for one of {', '.join(ours)}, in this "
            "order."
        )
        return state, set()
    if set(theirs) == set(ours):
        return rows_by_name(model, state, theirs, ours, source), set()
    return {name: tensor for name, tensor in state.items() if name not in rows}, rows


def check_answers(
    theirs: tuple[str, ...], their_words: dict[str, str], labels: tuple[str, ...], words: dict[str, str], source: str
) -> None:
    """Raise `ValueError` if the words or numbers that an adapter learned to write stand for other classes here."""
    common = sorted(set(words.values()) & set(their_words.values()))
    if [word for word in common if class_of(word, words) != class_of(word, their_words)]:
        raise UserError(
            f"`init_adapter`={source!r} has learned the words {their_words} of the classes, and `model.label_words` "
            f"has {words}: give it those words, or leave out `init_adapter`."
        )
    if not words and set(labels) == set(theirs) and labels != theirs:
        raise UserError(
            f"`init_adapter`={source!r} answers with the numbers of {', '.join(theirs)}, in this order, and `data` "
            f"has {', '.join(labels)}: give them in that order as `data.labels`, or leave out `init_adapter`."
        )


def class_of(word: str, words: dict[str, str]) -> str:
    """The class that a word stands for."""
    return next(label for label, one in words.items() if one == word)


def read_peft_state(model: PreTrainedModel, folder: Path, content: dict[str, object]) -> dict[str, Tensor]:
    """A PEFT folder's tensors under kronlit's names. A different scale is multiplied into the last factor."""
    changes, state = read_peft(folder, content)
    places, own = dict(placements(model)), adapter_state(model)
    for name, change in changes.items():
        place = places.get(name)
        fitting = next((one for one in (change, *change.others) if fits(place, one)), None)
        if fitting is None:
            matrix = getattr(place, "matrix", None)
            has = "no such matrix" if matrix is None else f"the {type(place).__name__} of a {type(matrix).__name__}"
            raise UserError(
                f"`init_adapter`={str(folder)!r} has the {change.placement.__name__} of a {change.kind.__name__} at "
                f"{name}, and `model.method` {has}."
            )
        parts = dict(fitting.state)
        if fitting.scale is not None:
            *_, last = (f"matrix.{part}" for part in fitting.parts)
            parts[last] = parts[last] * (fitting.scale / cast(Any, place).scale)
        state |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        if (auto := f"{name}.{AUTO_SCALE}") in own:  # PEFT has no such entry: the scale stays this model's
            state[auto] = own[auto]
    return state


def fits(place: Placement | None, change: PeftChange) -> bool:
    """Whether `place` makes a change of this kind, whose values it can take."""
    matrix = getattr(place, "matrix", None)
    if type(place) is not change.placement or not isinstance(matrix, change.kind):
        return False
    terms = getattr(change.make, "keywords", {}).get("neumann_terms")
    return getattr(matrix, "neumann_terms", None) == terms and not isinstance(getattr(place, "scale", 1.0), Tensor)
