"""Tests and predicts with several adapters: an ensemble of them, or each for the rows that name it."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from kronlit.adapters.emea import Over, Shared, check_layers, minimise_entropy
from kronlit.config.user_error import UserError, user_errors
from kronlit.exchange.combine.weights import read_weights
from kronlit.exchange.load_many import ManyAdapters, below_module, for_module, no_such_adapter
from kronlit.modules import FrozenPLM, QuestionAnswering

Kind = Literal["uniform", "emea"]
EQUAL = ["uniform"]


class Ensemble(Callback):
    """Puts several adapters into a module's model before it is tested or predicts.

    Args:
        adapters: their folders, hub ids or runs, each with `name=` before it if need be.
        ensemble: uniform mixes their outputs with equal weights; emea with those that minimise the entropy of the
            predictions, without a label.
        weights: what uniform mixes with in place of equal weights, as `read_weights` takes them; they sum to 1.
        steps: the number of emea's steps for each batch.
        step_size: the size of such a step.
        weights_of: whether emea finds weights for each row, or shared ones for each batch.
        entropy_over: whether the entropy is a mean over real tokens, or over padding too.
        adapter_column: the column of `predict_file` that names each row's adapter; nothing is mixed then.
        stacked: whether the adapters stand below what the module trains.
    """

    many: ManyAdapters

    def __init__(
        self,
        adapters: list[str],
        ensemble: Kind = "uniform",
        weights: Sequence[str] = EQUAL,
        steps: int = 10,
        step_size: float = 10.0,
        weights_of: Shared = "row",
        entropy_over: Over = "tokens",
        adapter_column: str | None = None,
        stacked: bool = False,
    ) -> None:
        if steps < 0:
            raise UserError(f"`steps`={steps} must be at least 0; 0 is the uniform ensemble.")
        if not 0 < step_size < float("inf"):
            raise UserError(f"`step_size`={step_size} must be a number above 0.")
        if adapter_column is not None and ensemble != "uniform":
            raise UserError(f"`adapter_column` gives each row one adapter, and `ensemble`={ensemble!r} mixes all.")
        if list(weights) != EQUAL and (adapter_column is not None or ensemble != "uniform"):
            raise UserError(
                "`weights` mix the adapters: leave them out with `adapter_column`, and with emea, which finds its own."
            )
        self.adapters = adapters
        self.weights = weights
        self.ensemble = ensemble
        self.options = (steps, step_size, weights_of, entropy_over)
        self.adapter_column = adapter_column
        self.stacked = stacked
        self.chosen: list[list[str]] = []
        self.shares: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, FrozenPLM)
        if pl_module.model is None:
            pl_module.setup(stage)  # Lightning calls it after this one, which needs to know the precision
            self.many = (below_module if self.stacked else for_module)(self.adapters, pl_module)
            if list(self.weights) != EQUAL:
                weights = read_weights(self.weights, len(self.many.names), len(self.many.layers))
                self.many.mix(torch.tensor(weights).mT)
            if self.ensemble == "emea":
                with user_errors():
                    check_layers(self.many.blend)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (column := self.adapter_column) is None:
            return
        data = cast(Any, trainer).datamodule
        for split in data.predicted_splits():
            columns = data.row_identity(split)
            if column not in columns:
                raise UserError(
                    f"`adapter_column`={column!r}: the rows to predict have the columns {', '.join(columns)}; give a "
                    "file that has it as `data.predict_file`."
                )
            names = self.many.names
            for number, name in enumerate(columns[column], start=1):
                if name not in names:
                    raise UserError(f"`adapter_column`={column!r}, row {number}: {no_such_adapter(name, names)}")
            self.chosen.append(list(columns[column]))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._prepare(trainer, pl_module, batch, dataloader_idx)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._prepare(trainer, pl_module, batch, dataloader_idx)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._prepare(trainer, pl_module, batch, dataloader_idx)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule, batch: Any, loader: int) -> None:
        """Choose the adapters of a batch's rows, or find the weights for them."""
        assert isinstance(pl_module, FrozenPLM)
        rows = batch["row"].tolist()
        if self.adapter_column is not None:
            if isinstance(pl_module, QuestionAnswering):  # the batch holds the windows of its rows
                rows = [rows[owner] for owner in batch["owner"].tolist()]
            self.many.choose([self.chosen[loader][row] for row in rows])
        elif self.ensemble == "emea":
            owner = batch.get("owner")
            if self.options[2] == "row" and owner is not None and owner.tolist() != list(range(len(rows))):
                raise UserError(
                    "`weights_of`='row' takes one reference a row, and these have several: take 'batch', with "
                    "`data.eval_batch_size` 1 for weights of each row."
                )
            with trainer.precision_plugin.forward_context():
                minimise_entropy(self.many.blend, lambda: pl_module.unlabelled_logits(batch), len(rows), *self.options)
            weights = self.many.blend.weights
            assert weights is not None
            self.shares += weights.unbind(1) if weights.ndim == 3 else [weights]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say_shares()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say_shares()

    def _say_shares(self) -> None:
        if self.shares:
            mean = cast(Tensor, sum(self.shares)).mean(0) / len(self.shares)
            each = ", ".join(f"{name} {share:.3f}" for name, share in zip(self.many.names, mean.tolist(), strict=True))
            rank_zero_only(print)(f"mean weights over layers and rows: {each}.")
