"""Images as the pixels that the model reads, decoded at each access or once into a memory-mapped cache."""

import hashlib
from typing import TYPE_CHECKING, Any

import datasets
from datasets import Dataset, Features, Value
from torch.utils.data import Dataset as TorchDataset

from kronlit.config.user_error import UserError
from kronlit.data.augmentation import Augmentation
from kronlit.data.batches import Key
from kronlit.data.feature_cache import map_once
from kronlit.data.trained_module import ImageReader

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 8 << 30
"""The largest cache that is worth its space on the disk."""


class Pixels(TorchDataset[dict[str, Any]]):
    """Rows of images with the features `pixels` (bytes), `label` and `row`, decoded at each access.

    A key of seed, epoch and row asks for an augmented row. The augmentation depends only on these three, so it is the
    same on every process, and in a resumed run.

    Args:
        rows: rows with `image`, not decoded, and `label` if there is one.
        reader: turns an image into pixels.
        where: the name of the rows, for messages.
        augmentation: applied to rows that are asked for with seed and epoch.
    """

    def __init__(
        self, rows: Dataset, reader: ImageReader, where: str, augmentation: Augmentation | None = None
    ) -> None:
        self.rows = rows
        self.reader = reader
        self.where = where
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        row = key if isinstance(key, int) else key[-1]
        content = self.rows[row]
        image = decode_image(content["image"], f"{self.where}, row {row}").convert(self.reader.mode)
        stretch = False
        if self.augmentation is not None and not isinstance(key, int):
            image = self.augmentation(image, mix_seed(*key))
            stretch = self.augmentation.changes_shape
        return {"pixels": self.reader(image, stretch).tobytes(), "label": content.get("label", -1), "row": row}

    def cache_pays(self) -> bool:
        """Whether a cache pays: it must make the images smaller, and must not be too large for the disk."""
        channels, height, width = self.reader.shape
        some = [
            decode_image(self.rows[row]["image"], f"{self.where}, row {row}").size for row in range(min(8, len(self)))
        ]
        shrinks = height * width <= sum(w * h for w, h in some) / len(some)
        return shrinks and len(self) * channels * height * width <= CACHE_BYTES

    def from_cache(self) -> Dataset:
        """The same features from a memory-mapped file, which is made on first use."""
        features = Features({"pixels": Value("large_binary"), "label": Value("int64"), "row": Value("int64")})
        return map_once(
            self.rows,
            lambda _, row: self[row],
            (self.where, self.reader.key),
            features=features,
            writer_batch_size=100,
            desc=f"reading images of {self.where}",
        )


def decode_image(image: dict[str, Any], where: str) -> "Image":
    """Decode an image that `datasets` stores as bytes or a path.

    Raises:
        ValueError: if the image is damaged or missing; the message names row and file.
    """
    try:
        found = datasets.Image().decode_example(image)
        found.load()
        return found
    except Exception as error:  # Pillow raises many kinds of errors for a damaged file
        name = (image or {}).get("path")
        of = f" ({name})" if name else ""
        raise UserError(f"{where}{of}: the image is damaged or not there: {error}.") from error


def mix_seed(seed: int, epoch: int, row: int) -> int:
    """Hash three numbers to one, so that neighbouring rows have unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr((seed, epoch, row)).encode()).digest()[:8], "big") >> 1
