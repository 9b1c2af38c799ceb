"""`kronlit.load_many`: several adapters in one frozen model, mixed or each for its own rows."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kronlit.adapters.emea import Over, Shared, minimise_entropy
from kronlit.adapters.several import (
    Blend,
    join_several,
    quantised_otherwise,
    rows_blocker,
    several_blocker,
    share_frozen_weights,
)
from kronlit.config.user_error import UserError, user_errors
from kronlit.data.trained_task import check_task
from kronlit.exchange.adapter_folder import CONFIG
from kronlit.exchange.below import BelowAdapter, SeveralBelow
from kronlit.exchange.class_names import class_names
from kronlit.exchange.combine.member import open_file
from kronlit.exchange.load import is_here, load
from kronlit.exchange.saved_run import saved_run
from kronlit.modules import FrozenPLM
from kronlit.modules.backbone import store_frozen


class ManyAdapters(nn.Module):
    """A frozen model with several adapters in it; `kronlit.load_many` makes one.

    Attributes:
        names: the names of the adapters, in their order.
        model: the model of Transformers.
        layers: the names of the layers that an adapter changes, in the order of the weights.
    """

    def __init__(self, names: Sequence[str], model: PreTrainedModel, blend: Blend) -> None:
        super().__init__()
        self.names = tuple(names)
        self.model = model
        self.blend = blend

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.blend.layers)

    def forward(self, *, adapters: Sequence[str] | None = None, **inputs: Any) -> Any:
        """What the model gives for `inputs`.

        Args:
            adapters: the name of each row's adapter; by default, the outputs of all adapters are mixed.
            **inputs: what the model takes.

        Raises:
            ValueError: if the batch has not as many rows as `adapters`, or as the weights found for each row.
        """
        self.choose(adapters)
        rows, weights = self._rows(inputs), self.blend.weights
        if adapters is not None and len(adapters) != rows:
            raise UserError(
                f"`adapters` names {len(adapters)} adapters, and the batch has {rows} rows: name one a row."
            )
        if adapters is None and weights is not None and weights.ndim == 3 and weights.shape[1] != rows:
            raise UserError(
                f"the batch has {rows} rows, and `minimise_entropy` found weights for each of {weights.shape[1]} "
                "others: call it with this batch, or call `mix`."
            )
        return self.model(**inputs)

    def _rows(self, inputs: dict[str, Any]) -> int:
        """The number of rows of a batch."""
        main = inputs.get(self.model.main_input_name)
        return len(
            next((value for value in inputs.values() if isinstance(value, Tensor)), ()) if main is None else main
        )

    def choose(self, adapters: Sequence[str] | None) -> None:
        """Let each row of the next batches go through the adapter of this name; `None` mixes all again."""
        known = {name: number for number, name in enumerate(self.names)}
        for name in adapters or ():
            if name not in known:
                raise UserError(f"`adapters`: {no_such_adapter(name, self.names)}")
        if adapters is not None and (reason := rows_blocker(self.model)):
            raise UserError(f"rows cannot each have an adapter of their own here: {reason}. Mix the adapters.")
        self.blend.choose(None if adapters is None else torch.tensor([known[name] for name in adapters]))

    def mix(self, weights: Sequence[float] | Tensor | None = None) -> None:
        """Mix the adapters' outputs with these weights from now on.

        Args:
            weights: one of each adapter, or as many for each layer, `(layers, adapters)`; by default uniform.

        Raises:
            ValueError: if they are not as many, or do not sum to 1.
        """
        if weights is None:
            self.blend.weights = None
            return
        given = torch.as_tensor(weights, dtype=torch.float32)
        shape = len(self.blend.layers), len(self.names)
        if given.shape not in (shape, shape[1:]):
            raise UserError(
                f"`weights` of shape {tuple(given.shape)}: give one for each of the {shape[1]} adapters, or "
                f"{shape}, as many for each layer."
            )
        if not torch.allclose(given.sum(-1), torch.ones(())):
            raise UserError(f"`weights`={given.tolist()} must sum to 1, as each adapter's output has the host's in it.")
        self.blend.weights = given.expand(shape).clone()

    def minimise_entropy(
        self,
        inputs: dict[str, Tensor],
        steps: int = 10,
        step_size: float = 10.0,
        weights_of: Shared = "row",
        over: Over = "tokens",
    ) -> None:
        """Set the weights to those with which the model is sure of its predictions for `inputs` (EMEA).

        Args:
            inputs: what the model takes, with `attention_mask`, which says what tokens are real.
            steps: see `kronlit.adapters.emea.minimise_entropy`, as for all that follow.
            step_size: the size of a step.
            weights_of: row, or batch.
            over: tokens, or all.
        """
        self.choose(None)

        def predict() -> tuple[Tensor, Tensor]:
            logits = self.model(**inputs).logits
            if logits.ndim == 3:
                return logits, inputs["attention_mask"].bool()
            return logits[:, None], torch.ones(len(logits), 1, dtype=torch.bool, device=logits.device)

        with user_errors():
            minimise_entropy(self.blend, predict, self._rows(inputs), steps, step_size, weights_of, over)


def load_many(sources: Sequence[str | Path] | Mapping[str, str | Path]) -> ManyAdapters:
    """Load one frozen model with several adapters in it, of the same or of different methods; nothing is merged.

    Args:
        sources: folders of `kronlit.save`, `kronlit export` or PEFT, ids of the hub, or folders of runs; by name, or
            in a list. The name of one in a list is that of its folder, or, for a run, that of its experiment.

    Raises:
        ValueError: if there are fewer than two, their frozen weights or classes differ, or one can stand beside no
            other.

    Example:
        >>> model = load_many(["adapters/films", "adapters/books"])  # doctest: +SKIP
        >>> model(**batch_of_two_rows, adapters=["books", "films"]).logits  # doctest: +SKIP
    """
    named = dict(sources) if isinstance(sources, Mapping) else by_name(list(map(str, sources)))
    return together({name: open_adapter(source, None) for name, source in several(named).items()})


def for_module(sources: Sequence[str], module: FrozenPLM) -> ManyAdapters:
    """As `load_many`, for the rows that `module` reads; its model becomes the one with all adapters.

    The frozen weights are quantised and stored as those of `module`.
    """
    models = {}
    for name, source in several(by_name(sources)).items():
        models[name] = open_adapter(source, module)
        store_frozen(models[name], module._frozen_dtype, everything=module._all_frozen)
    many = together(models)
    module.model = many.model
    return many


def below_module(sources: Sequence[str], module: FrozenPLM) -> ManyAdapters:
    """One or more adapters below what `module` trains, whose model is then made."""
    named, blend = by_name(sources), Blend(len(sources))
    with TemporaryDirectory() as scratch:
        files = [open_file(source, Path(mkdtemp(dir=scratch))) for source in named.values()]
        module.below = SeveralBelow([BelowAdapter(one.source, one.folder, one.trusted) for one in files], blend)
        module.configure_model()
    assert module.model is not None
    return ManyAdapters(list(named), module.model, blend)


def several(named: dict[str, Any]) -> dict[str, Any]:
    """`named`, unless there are fewer than two."""
    if len(named) < 2:
        raise UserError(f"`adapters`={list(named.values())} must be two or more.")
    return named


def by_name(sources: Sequence[str]) -> dict[str, str]:
    """The sources by their names: what stands before a `=`, or the name of the folder, without a run's version."""
    named: dict[str, str] = {}
    for source in sources:
        name, sign, path = source.partition("=")
        if not sign or is_here(source):
            path = source
            parts = [part for part in Path(source).parts if not part.startswith(("version_", "checkpoints"))]
            name = Path(parts[-1]).name if parts else source
        if name in named:
            raise UserError(
                f"`adapters`: {named[name]!r} and {path!r} are both named {name!r}: give names, as "
                f"one={named[name]} two={path}."
            )
        named[name] = path
    return named


def open_adapter(source: str | Path, module: FrozenPLM | None) -> PreTrainedModel:
    """The model with one adapter, from its folder or from its run's; with `module`, of the classes of its task."""
    path = Path(source)
    try:
        if path.is_file() or (is_here(path) and not (path / CONFIG).is_file()):
            run = saved_run(str(source)).module()
            if module is not None:
                check_task(module.task, run.task)
                if run.quantisation != module.quantisation:
                    raise UserError(
                        f"it was trained under {run.quantisation}, and the config has {module.quantisation}: give it "
                        "the `model.quantization` of the run, and what goes with it."
                    )
            assert run.model is not None
            return run.model
        if module is None:
            return load(source)
        model, drawn = module.load()
        module.quantisation.apply(model, drawn)
        return load(source, cast(PreTrainedModel, model.float()))  # the trained numbers are not rounded
    except ValueError as error:
        raise UserError(f"`adapters`: {str(source)!r}: {error}") from error


def together(models: dict[str, PreTrainedModel]) -> ManyAdapters:
    """One frozen model of several that differ only in what was added to them and trained."""
    first, *others = models
    base = models[first]
    for name, model in models.items():
        if reason := several_blocker(model):
            raise UserError(f"`adapters`: {name!r} can stand beside no other: {reason}.")
    for name in others:
        model = models[name]
        if type(model) is not type(base):
            raise UserError(f"`adapters`: {name!r} is a {type(model).__name__}, and {first!r} a {type(base).__name__}.")
        ours, theirs = class_names(base), class_names(model)
        if ours != theirs or base.config.num_labels != model.config.num_labels:
            raise UserError(
                f"`adapters`: {name!r} is of the classes {', '.join(theirs)}, and {first!r} of {', '.join(ours)}: only "
                "adapters of the same ones, in the same order, go together."
            )
        if (difference := quantised_otherwise(base, model)) is not None:
            raise UserError(
                f"`adapters`: {name!r} is quantised otherwise than {first!r}: its {difference}. Load them alike."
            )
        if (weight := share_frozen_weights([base, model])) is not None:
            raise UserError(
                f"`adapters`: {name!r} was trained on other frozen weights than {first!r}: their {weight} differ. Only "
                "adapters of one pre-trained model go together."
            )
    model, blend = join_several(list(models.values()))
    return ManyAdapters(list(models), model.requires_grad_(False).eval(), blend)


def no_such_adapter(name: object, names: Sequence[str]) -> str:
    """That there is no adapter of this name, and the nearest one."""
    near = difflib.get_close_matches(str(name), names, 1)
    return f"{name!r} is none of {', '.join(names)}" + (f"; did you mean {near[0]!r}?" if near else ".")
