"""Rows of images as the model's pixels: decoded when they are asked for, or once, into a memory-mapped cache."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from datasets import Dataset, Features, Value
from torch.utils.data import Dataset as TorchDataset

from kronlit.config.user_error import UserError
from kronlit.data.augmentation import Augmentation
from kronlit.data.batches import Key
from kronlit.data.trained_module import ImageReader

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 8 << 30
"""More than this is not worth its place on the disk."""


class Pixels(TorchDataset[dict[str, Any]]):
    """Rows of images as features `pixels` (bytes), `label` and `row`, decoded when they are asked for.

    A row that is asked for by seed, epoch and row is augmented, by these three alone: whatever process makes it, and
    wherever a run was interrupted, it is the same.

    Args:
        rows: with `image`, not decoded, and, if there is one, `label`.
        reader: what the model reads of an image.
        where: the name of the rows, for messages.
        augmentation: what is done to a row that is asked for with seed and epoch.
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
        """Whether reading images once into a cache pays: where it shrinks them, and is no burden to the disk."""
        channels, height, width = self.reader.shape
        some = [
            decode_image(self.rows[row]["image"], f"{self.where}, row {row}").size for row in range(min(8, len(self)))
        ]
        shrinks = height * width <= sum(w * h for w, h in some) / len(some)
        return shrinks and len(self) * channels * height * width <= CACHE_BYTES

    def from_cache(self) -> Dataset:
        """The same features from a memory-mapped file, which is made if it is not there."""
        key = hashlib.sha256(repr((self.rows._fingerprint, self.where, self.reader.key)).encode()).hexdigest()[:32]
        cache = Path(datasets.config.HF_DATASETS_CACHE, "kronlit")
        cache.mkdir(parents=True, exist_ok=True)
        features = Features({"pixels": Value("large_binary"), "label": Value("int64"), "row": Value("int64")})
        return self.rows.map(
            lambda _, row: self[row],
            with_indices=True,
            remove_columns=self.rows.column_names,
            features=features,
            new_fingerprint=key,
            cache_file_name=str(cache / f"{key}.arrow"),
            writer_batch_size=100,
            desc=f"reading images of {self.where}",
        )


def decode_image(image: dict[str, Any], where: str) -> "Image":
    """The image that `datasets` stores as bytes or a path.

    Raises:
        ValueError: if it is damaged or not there; it names row and file.
    """
    try:
        found = datasets.Image().decode_example(image)
        found.load()
        return found
    except Exception as error:  # whatever Pillow makes of a damaged file
        name = (image or {}).get("path")
        of = f" ({name})" if name else ""
        raise UserError(f"{where}{of}: the image is damaged or not there: {error}.") from error


def mix_seed(seed: int, epoch: int, row: int) -> int:
    """One number from three, without likeness between neighbours."""
    return int.from_bytes(hashlib.sha256(repr((seed, epoch, row)).encode()).digest()[:8], "big") >> 1
