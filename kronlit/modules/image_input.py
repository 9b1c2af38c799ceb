"""Prepares images for a vision model: size, crop, mean and standard deviation come from the model's own files."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # from the top, 5.17 asks for torchvision

from kronlit.config.user_error import UserError
from kronlit.modules.plm import from_pretrained, load_config

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageInput:
    """A model's image processor (preprocessor_config.json), run by Pillow and NumPy, so torchvision is not needed.

    Args:
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained vision model.

    Raises:
        ValueError: if the model has no such file, or its images would have different sizes.
    """

    def __init__(self, plm: str) -> None:
        config = load_config(plm)
        config = getattr(config, "vision_config", config)
        channels = getattr(config, "num_channels", 3)
        self.mode = {1: "L", 3: "RGB"}.get(channels, "")
        self.processor = from_pretrained(AutoImageProcessor, plm, backend="pil")
        size = self.processor.crop_size if self.flag("do_center_crop") else self.processor.size
        if not self.mode or not (size and size["height"] and size["width"]):
            raise UserError(
                f"`model.plm`={plm!r} reads images of {channels} channels and of size {dict(size or {})}; "
                "`ImageClassification` gives 1 or 3 channels, and one height and width."
            )
        if self.flag("do_normalize") and len(self.processor.image_mean) != channels:
            raise UserError(
                f"`model.plm`={plm!r} is damaged: config.json has {channels} channels, and `image_mean` in its "
                f"preprocessor_config.json is {self.processor.image_mean}."
            )
        self.shape = (channels, size["height"], size["width"])

    def flag(self, name: str) -> bool:
        """Whether the processor does the step of this name."""
        return bool(getattr(self.processor, name, False))

    @cached_property
    def key(self) -> str:
        """Identifies the way of reading: it changes if the same image would give other pixels."""
        return repr((type(self.processor).__name__, self.mode, sorted(self.processor.to_dict().items(), key=str)))

    def __call__(self, image: "Image", stretch: bool = False) -> np.ndarray:
        """The pixels of an image of `mode`, `shape`, uint8.

        Args:
            image: an image of any size.
            stretch: resize the whole image to the model's height and width, instead of cropping as the processor does.
        """
        _, height, width = self.shape
        how: dict[str, Any] = {"size": {"height": height, "width": width}} if stretch else {}
        pixels = self.processor(images=image, do_rescale=False, do_normalize=False, return_tensors="np", **how)
        return pixels["pixel_values"][0]

    def normalise(self, pixels: Tensor) -> Tensor:
        """`pixel_values` of `pixels` `(n, channels, height, width)`, in float32, on their device."""
        values = pixels.float()
        if self.flag("do_rescale"):
            values = values * self.processor.rescale_factor
        if self.flag("do_normalize"):
            values = (values - self._along_channels("image_mean", values)) / self._along_channels("image_std", values)
        return values

    def _along_channels(self, name: str, values: Tensor) -> Tensor:
        numbers = torch.tensor(getattr(self.processor, name), dtype=torch.float32)
        return numbers.reshape(-1, 1, 1).to(values.device, non_blocking=True)
