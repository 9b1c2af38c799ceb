"""The LightningModule that all tasks share: a frozen pre-trained model plus a method."""

import time
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import Metric
from transformers import PreTrainedModel

from kronlit.adapters import trainable_report
from kronlit.adapters.state import adapter_state, fingerprint, with_current_names
from kronlit.adapters.transaction import INJECTED
from kronlit.config.user_error import UserError, user_errors
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.methods.base import group
from kronlit.metrics.classification import TaskMetrics
from kronlit.modules.backbone import AUTOCAST, Below, nothing_below, store_frozen
from kronlit.modules.batch import Batch, TrainingPass
from kronlit.modules.consistency import symmetric_divergence, two_passes
from kronlit.modules.finite import check_loss, check_weights
from kronlit.modules.job import check_job
from kronlit.modules.optimized import Optimized
from kronlit.modules.origin import check_adapter_state, check_meaning, check_origin, origin
from kronlit.modules.plm import load_config
from kronlit.modules.precision import check_precision
from kronlit.modules.quantisation import ComputeDtype, Quantisation, Quantization
from kronlit.modules.random_state import random_states, restore_random_state
from kronlit.modules.recompute import recompute_activations
from kronlit.modules.resumption import check_order, check_settings, fit_schedule, settings
from kronlit.modules.routing import Routing


class FrozenPLM(Optimized, ABC):
    """A frozen pre-trained model plus what a method adds, trained with AdamW and linear decay unless told otherwise.

    To add a kind of task, subclass this or `TextModule`, and write `load`, `training_pass`, `predictions` (or
    `new_metrics` and `_score`), and `scores` or `texts`.

    Args:
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained model.
        method: the method, which says what is added and trained.
        task: the task; the command line takes it from `data`.
        gradient_checkpointing: recompute activations in the backward pass, which takes less memory and more time.
        consistency: weight of the divergence between two passes of each batch, each with its own dropout and experts.
            AdaMix has 1; for other methods this is R-Drop. For regression there is no second pass.
        backbone_dtype: auto stores the frozen weights of products in the 16-bit type of a mixed precision, which gives
            the same numbers in half the memory; float32 does not. The precision bf16-true stores all that is frozen so.
        quantization: how the frozen linear modules of the body are stored: none; nf4, 4 bits; int8, 8 bits, both of
            bitsandbytes; or int8_torchao, 8 bits of torchao. Each is formed again whenever it is multiplied by.
        double_quantization: quantise the scales of nf4, too, which saves 0.37 bits a number.
        compute_dtype: the type that products with quantised weights are computed in; auto is that of other products.
    """

    joint_pass: TrainingPass | None = None
    """What computes the training passes in place of `training_pass`, such as together with those of other runs."""
    below: Below = nothing_below
    """Puts a frozen adapter into the model, for what is trained to stand on."""

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        gradient_checkpointing: bool = False,
        consistency: float = 0.0,
        backbone_dtype: Literal["auto", "float32"] = "auto",
        quantization: Quantization = "none",
        double_quantization: bool = False,
        compute_dtype: ComputeDtype = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_job(self, task)
        if not 0 <= consistency < float("inf"):
            raise UserError(f"`model.consistency`={consistency} must be a number from 0 up.")
        self.plm = plm
        self.method = method
        self.task = task
        self.gradient_checkpointing = gradient_checkpointing
        self.consistency = consistency
        self.backbone_dtype = backbone_dtype
        self.quantization, self.double_quantization = quantization, double_quantization
        self.quantisation = Quantisation(quantization, double_quantization, compute_dtype)
        self.strict_loading = False  # checkpoints hold no frozen weights; on_load_checkpoint checks the rest
        self.model: PreTrainedModel | None = None
        self._frozen_dtype, self._all_frozen = torch.float32, False
        self.val_metrics = nn.ModuleList(self.new_metrics() for _ in range(1 + len(task.validation)))
        self.test_metrics = self.new_metrics()
        self.routing = Routing()
        self._random_states: list[dict[str, Any]] | None = None
        self._steps_before: float | None = None

    # --- what a kind of task says ---

    @abstractmethod
    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        """Load the pre-trained model; also returns its newly initialised parameters (see `load_model`)."""

    @abstractmethod
    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss of each prediction, `(predictions,)`, and the log-probabilities, `(predictions, classes)` or `None`.

        The predictions are in the order of the rows: one for each label or target token of a row.
        """

    @property
    def padding(self) -> dict[str, int] | None:
        """The padding value of each tensor in a batch, by name; `None` if batches cannot be joined by padding."""
        return {}

    def reads(self) -> tuple[str, ...]:
        """The templates that turn a row into text; none if the model does not read column names."""
        return ()

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The predicted label of each row (-1 for none; for free text its marks, `(n, 2)`) and its loss, `(n,)`."""
        raise NotImplementedError

    def scores(self, batch: Batch) -> Tensor:
        """Probability of each class, `(n, num_labels)`; for regression the predicted number, `(n, 1)`."""
        raise NotImplementedError

    def unlabelled_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits, `(n, predictions, classes)`, by inputs alone; and which are no padding, `(n, predictions)`."""
        raise UserError(f"`ensemble`='emea' has no entropy of a `{type(self).__name__}`'s answers: take 'uniform'.")

    def texts(self, batch: Batch) -> list[str]:
        """The answer of each row, for tasks of free text."""
        raise NotImplementedError

    def new_metrics(self) -> Metric:
        """Make the metrics of a split."""
        return TaskMetrics(self.task)

    # --- building ---

    def setup(self, stage: str) -> None:
        precision, kind = str(self.trainer.precision), load_config(self.plm).model_type
        check_precision(precision, kind, self.trainer.precision_plugin, self.backbone_dtype)
        self._all_frozen = precision == "bf16-true"
        if self.backbone_dtype == "auto":
            self._frozen_dtype = AUTOCAST.get(precision, torch.float32)

    def configure_model(self) -> None:
        if self.model is not None:
            return
        self.model, self._fresh = self.load()
        self.quantisation.apply(self.model, self._fresh)
        loaded = self.model.dtype
        with user_errors(), self.below(self.model):
            self.method.apply(self.model)
        for parameter in self._fresh:  # a frozen random layer would differ after each loading, so these must be trained
            parameter.requires_grad_(True)
        vars(self.model)[INJECTED], self._plm = self.method, fingerprint(self.model)
        store_frozen(self.model, self._frozen_dtype, loaded, self._all_frozen)
        if self.gradient_checkpointing:
            recompute_activations(self.model, self.routing.generator)
        self.routing.take(self.model.modules())
        self.model.train()

    def _dtype_to_load(self) -> torch.dtype:
        """The type to load weights in, if their files have it: most become that, or are quantised from it."""
        return self._frozen_dtype if self.quantization == "none" else load_config(self.plm).dtype or torch.float32

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        if not any(p.requires_grad for p in self.parameters()):
            raise UserError(
                f"`model.method`={type(self.method).__name__} trains nothing on {self.plm!r}: "
                "`model.method.trains` takes what it has, layer_norm, bias or all."
            )
        return super().configure_optimizers()

    def head_parameters(self) -> set[int]:
        assert self.model is not None
        return {id(p) for p in (*self._fresh, *group(self.model, "head")) if p.requires_grad}

    # --- training ---

    def on_fit_start(self) -> None:
        assert self.model is not None
        rank_zero_only(print)(trainable_report(self.model))

    def on_train_start(self) -> None:
        self._epoch_start = self._last_step = time.perf_counter()
        fit_schedule(self.trainer, self._steps_before)
        if self._random_states is not None:
            restore_random_state(self._random_states, self.global_rank)
            self._random_states = None
            return
        self.routing.generator.manual_seed(torch.initial_seed())
        if self.trainer.world_size > 1:
            # seed_everything seeds all processes alike, so dropout would be the same on each of them.
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_epoch_start(self) -> None:
        self._epoch_start = self._last_step = time.perf_counter()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # On resuming with another validation interval, Lightning restores the step that it logs by one too few.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.trainer.global_step

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._last_step = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        # Until the last step, because the validation after it is not training.
        self.log("train/epoch_seconds", self._last_step - self._epoch_start)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.train_loss(batch)
        check_loss(loss, batch["row"], self.trainer)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["row"]))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(batch["row"]))
        return loss

    def train_loss(self, batch: Batch) -> Tensor:
        """The mean loss of a pass, plus `consistency` times the divergence from a second pass."""
        training_pass = self.joint_pass or self.training_pass
        if not self.consistency or self.task.is_regression:
            return training_pass(batch)[0].mean()
        losses, p, q = two_passes(training_pass, batch, apart=self.routing.draws)
        return losses.mean() + self.consistency * symmetric_divergence(p, q)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.routing.before_step(optimizer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.routing.after_step()

    # --- evaluation ---

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._score(self.val_metrics[dataloader_idx], batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(self.test_metrics, batch)

    def _score(self, metrics: nn.Module, batch: Batch) -> None:
        prediction, loss = self.predictions(batch)
        assert isinstance(metrics, TaskMetrics)
        metrics.update(batch["row"], prediction, batch["label"], loss, batch.get("group"))

    def on_validation_epoch_end(self) -> None:
        for name, metrics in zip(("", *self.task.validation), self.val_metrics, strict=True):
            self._report(f"val_{name}" if name else "val", metrics)

    def on_test_epoch_end(self) -> None:
        self._report("test", self.test_metrics)

    def _report(self, name: str, metrics: nn.Module) -> None:
        assert isinstance(metrics, Metric)
        if metrics.update_called:
            values = {f"{name}/{key}": value.float() for key, value in metrics.compute().items()}
            self.log_dict(values, prog_bar=True, rank_zero_only=False)
            metrics.reset()

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Row numbers `(n,)` and `scores` `(n, num_labels)`; for free text `texts`."""
        if self.task.free_text:
            return {"row": batch["row"], "texts": self.texts(batch)}
        return {"row": batch["row"], "scores": self.scores(batch).float()}

    # --- checkpoints ---

    def _origin(self) -> dict[str, Any]:
        """The method, model and task without which the weights of a checkpoint are meaningless."""
        return origin(self, self._plm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = adapter_state(self)
        check_weights(checkpoint["state_dict"], self.trainer.global_step)
        checkpoint["random_states"] = random_states(self.trainer.world_size)
        checkpoint["router"] = self.routing.generator.get_state()
        checkpoint["kronlit"] = self._origin() | {"settings": settings(self)}

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that `checkpoint` fits, and rename its tensors to their present names.

        Raises:
            ValueError: if it is of another method or frozen model, or of other classes or columns.
        """
        check_meaning(self, checkpoint)
        checkpoint["state_dict"] = with_current_names(self, checkpoint["state_dict"])
        check_adapter_state(self, checkpoint["state_dict"])
        check_origin(self._origin(), checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_checkpoint(checkpoint)
        if self.trainer.state.fn == "fit":
            check_settings(self, checkpoint)
            check_order(self, checkpoint)
        self._steps_before = checkpoint.get("kronlit", {}).get("settings", {}).get("steps")
        self._random_states = checkpoint.get("random_states")
        self.routing.restore(checkpoint.get("router"))
