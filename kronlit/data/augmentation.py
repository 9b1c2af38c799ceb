"""Random crops and flips of training images by kornia, with a separate seed for each image."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from kronlit.config.user_error import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Augment = Literal["none", "crop", "crop_flip", "resized_crop", "resized_crop_flip"]


class Augmentation:
    """The usual augmentations: crop and flip.

    `crop` pads by an eighth (4 of 32 pixels for CIFAR) and crops to the original size. `resized_crop` takes 8 to 100 %
    of the area with an aspect ratio of 3:4 to 4:3; the model's own resizing then brings it to the model's size. `flip`
    mirrors an image left to right with probability 1/2.

    Args:
        kind: crop, crop_flip, resized_crop or resized_crop_flip.

    Raises:
        ValueError: if kornia is missing.
    """

    def __init__(self, kind: Augment) -> None:
        if importlib.util.find_spec("kornia") is None:
            raise UserError(
                f"`data.augment`={kind!r} needs kornia, which is missing: pip install 'kronlit[images]', or use `none`."
            )
        self.kind = kind

    @property
    def changes_shape(self) -> bool:
        """Whether the result may have another shape than the image."""
        return self.kind.startswith("resized")

    def __call__(self, image: "Image", seed: int) -> "Image":
        """`image`, augmented. The same `seed` gives the same result. Torch's own generator is not changed."""
        from PIL.Image import fromarray

        pixels = torch.from_numpy(np.asarray(image).copy())
        planes = pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0)  # (channels, height, width)
        with torch_seed(seed):
            planes = self._augment(planes[None].float() / 255)[0]
        array = (planes * 255).round().byte().movedim(0, -1).squeeze(-1).numpy()
        return fromarray(array)

    def _augment(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        crop, flip = kornia_steps(self.kind, height, width)
        if self.changes_shape:
            left, top, right, bottom = crop_box(crop.forward_parameters(images.shape)["src"])
            images = images[..., top:bottom, left:right]
        else:
            images = crop(images)
        return flip(images) if flip is not None else images


@lru_cache(maxsize=64)
def kornia_steps(kind: Augment, height: int, width: int) -> tuple[Any, Any]:
    """Kornia's crop and flip for images of this size."""
    from kornia.augmentation import RandomCrop, RandomHorizontalFlip, RandomResizedCrop

    if kind.startswith("resized"):
        crop = RandomResizedCrop((height, width), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    else:
        crop = RandomCrop((height, width), padding=(width // 8, height // 8))
    return crop, RandomHorizontalFlip(p=0.5) if kind.endswith("flip") else None


def crop_box(corners: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of kornia's corners `(1, 4, 2)`. Kornia's right and bottom pixels are included."""
    (left, top), _, (right, bottom), _ = corners[0].int().tolist()
    return left, top, right + 1, bottom + 1


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, which kornia draws from, and restore it afterwards."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed the devices too
    try:
        yield
    finally:
        torch.set_rng_state(state)
