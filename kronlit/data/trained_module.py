"""What data asks of the module that is trained on it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


class BatchMaker(Protocol):
    """A module that makes batches of rows."""

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Rows of features as one batch."""


class TextReader(BatchMaker, Protocol):
    """A module that says how text becomes tokens."""

    demonstrations: bool
    """Whether each row is given with training rows and their answers; if so, it is a `DemonstrationReader`."""

    @property
    def encoding_key(self) -> str:
        """Changes when `encode` gives other tokens for the same rows."""

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Columns of text, and `label` if there is one, as columns of tokens, `input_ids` among them."""


class DemonstrationReader(TextReader, Protocol):
    """A module that reads training rows and their answers beside a row."""

    words: Mapping[str, str]
    """By label the word that stands for it."""
    num_demonstrations: int
    """Sets of demonstrations over which an evaluation is averaged."""
    demonstration_filter_rate: float
    """Share of a label's training rows that are kept, the most similar ones."""


class ImageReader(Protocol):
    """Turns an image into the pixels that a model reads."""

    mode: str
    """`RGB` or `L`."""
    shape: tuple[int, int, int]
    """Channels, height and width."""
    key: str
    """Identifies the way of reading: it changes if the same image would give other pixels."""

    def __call__(self, image: "Image", stretch: bool = False) -> np.ndarray:
        """The pixels as uint8 of shape `shape`. With `stretch`, the whole image is used, whatever its aspect ratio."""


class ImageModule(BatchMaker, Protocol):
    """A module that says how images become pixels."""

    @property
    def reader(self) -> ImageReader:
        """What its model reads of an image."""
