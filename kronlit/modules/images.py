"""Image classification on a vision Transformer."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForImageClassification, PreTrainedModel

from kronlit.adapters import placements
from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.methods.base import group
from kronlit.modules.base import FrozenPLM
from kronlit.modules.batch import Batch
from kronlit.modules.image_input import ImageInput
from kronlit.modules.plm import load_model


class ImageClassification(FrozenPLM):
    """A frozen vision Transformer (ViT, DeiT, DINOv2, CLIP's vision model) with a classification head.

    A head in the model's files is kept if it has as many classes as the data. Otherwise a new one is initialised and
    trained.

    Args:
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained vision model.
        **kwargs: what `FrozenPLM` takes.
    """

    def __init__(self, plm: str, method: Method, task: Task, **kwargs: Any) -> None:
        super().__init__(plm, method, task, **kwargs)
        if task.columns != ("image",):
            raise UserError(f"`ImageClassification` goes with `--data Images`: {task.name} has no images.")

    @cached_property
    def reader(self) -> ImageInput:
        """Turns images into the pixels that the model reads."""
        return ImageInput(self.plm)

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        names = dict(enumerate(self.task.labels))
        numbers = {name: number for number, name in names.items()}
        model, fresh = load_model(AutoModelForImageClassification, self.plm, id2label=names, label2id=numbers)
        if not any(len(parameter) == len(names) for parameter in group(model, "head")):
            raise UserError(
                f"`model.plm`={self.plm!r} is a {type(model).__name__}, which has no head of {len(names)} classes: "
                "use a model that classifies images by a head, such as a ViT."
            )
        return model, fresh

    def configure_model(self) -> None:
        if self.model is None:
            super().configure_model()
            # Freeze what the logits do not depend on: DDP would wait for its gradient, which never comes.
            for parameter in self._unused_parameters():
                parameter.requires_grad_(False)

    def _unused_parameters(self) -> list[nn.Parameter]:
        """The model's trained parameters that the logits do not depend on (a mask token, CLIP's last norm)."""
        assert self.model is not None
        added = {id(p) for _, placement in placements(self.model) for p in placement.parameters()}
        head = {id(parameter) for parameter in group(self.model, "head")}
        own = [p for p in self.model.parameters() if p.requires_grad and id(p) not in added | head]
        if not own:
            return []
        pixels = torch.zeros(1, *self.reader.shape, device=own[0].device)
        rounds = self._frozen_dtype != torch.float32  # then the products need autocast too
        self.model.eval()
        with torch.enable_grad(), torch.autocast(pixels.device.type, self._frozen_dtype, enabled=rounds):
            logits = self.model(pixel_values=pixels).logits
        self.model.train()
        gradients = torch.autograd.grad(logits.sum(), own, allow_unused=True)
        return [parameter for parameter, gradient in zip(own, gradients, strict=True) if gradient is None]

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """Rows of pixels as one batch. They stay bytes until they are on the model's device."""
        batch: Batch = {name: torch.tensor([row[name] for row in rows]) for name in ("row", "label")}
        pixels = bytearray().join(row["pixels"] for row in rows)
        return batch | {"pixels": torch.frombuffer(pixels, dtype=torch.uint8).unflatten(0, (-1, *self.reader.shape))}

    def forward(self, batch: Batch) -> Tensor:
        """Logits, `(n, num_labels)`."""
        assert self.model is not None
        return self.model(pixel_values=self.reader.normalise(batch["pixels"])).logits.float()

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        log_probabilities = self(batch).log_softmax(-1)
        return F.nll_loss(log_probabilities, batch["label"], reduction="none"), log_probabilities

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        return logits.argmax(-1), F.cross_entropy(logits, batch["label"], reduction="none")

    def scores(self, batch: Batch) -> Tensor:
        return self(batch).softmax(-1)
