"""Images and their classes: CIFAR, SVHN, MNIST, STL-10 and others from the hub, or a local folder."""

import importlib.util
from typing import Any, cast

from datasets import ClassLabel, Dataset

from kronlit.config.user_error import UserError
from kronlit.data import benchmark
from kronlit.data.augmentation import Augment, Augmentation
from kronlit.data.base import TaskData
from kronlit.data.image_rows import labelled_images, read_folder, read_hub, read_images
from kronlit.data.image_sets import IMAGE_SETS, ImageSet
from kronlit.data.pixels import Pixels
from kronlit.data.rows import check_numbers
from kronlit.data.tasks import Task
from kronlit.data.trained_module import ImageModule

MOST_CLASSES = 100_000
"""A column with larger numbers is not a column of classes."""


class Images(TaskData):
    """Images and their classes, for `ImageClassification`.

    If there is no official validation split, a seeded share of the training images is held out.

    Args:
        dataset: cifar10, cifar100, svhn, mnist, stl10, sun397, dtd, or the hub id of another; with `path`, a name.
        path: a folder with train.parquet or train-*.parquet as the hub has them, or with one folder a class,
            train/<class>/*.png; likewise test and, if there is one, validation. By default the hub.
        image_column: the column of the images, if there are several.
        label_column: the column of the classes, if there are several.
        validation_share: share of the training images to hold out if there is no official validation split.
        split_seed: seed of that split.
        augment: none, crop (pad by an eighth and crop) or resized_crop (a random 8 to 100 % of the image); both also
            with _flip (mirror half of the images), unless mirroring changes the class.
        predict_path: a folder of images; `predict` reads it instead of the test set.
        **kwargs: what `TaskData` takes, but `max_tokens`.
    """

    def __init__(
        self,
        dataset: str,
        path: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        validation_share: float = 0.1,
        split_seed: int = 42,
        augment: Augment = "none",
        *,
        predict_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        if importlib.util.find_spec("PIL") is None:
            raise UserError("`Images` decodes with Pillow, which is missing: pip install 'kronlit[images]'.")
        if not 0 < validation_share < 1:
            raise UserError(f"`data.validation_share`={validation_share} must lie between 0 and 1.")
        if path is None and dataset not in IMAGE_SETS and "/" not in dataset:
            raise UserError(
                f"`data.dataset`={dataset!r} is no data set that is known; there are {', '.join(IMAGE_SETS)}, any "
                "hub id (owner/name), or a local folder with `--data.path`."
            )
        self.known = IMAGE_SETS.get(dataset, ImageSet(dataset))
        if augment.endswith("flip") and not self.known.mirrors:
            raise UserError(
                f"`data.augment`={augment!r} mirrors, and a mirrored digit is none: {dataset} takes none, crop or "
                "resized_crop."
            )
        self.dataset = dataset
        self.path = path
        self.image_column = image_column
        self.label_column = label_column
        self.validation_share = validation_share
        self.split_seed = split_seed
        self.augmentation = None if augment == "none" else Augmentation(augment)
        self.predict_path = predict_path
        self._read: dict[str, Dataset | None] = {}
        task = Task(dataset, ("image",), self._class_names())
        super().__init__(task, max_tokens=None, **kwargs)

    def _read_official(self, split: str) -> Dataset | None:
        """The official rows of a split, read once; `None` if there is no such split."""
        if split not in self._read:
            rows = read_hub(self.known, split) if self.path is None else read_folder(self.path, split)
            if rows is not None:
                usual = self.known.label_column if self.known.label_column in rows.column_names else None
                columns = (self.image_column, self.label_column or usual)
                rows = labelled_images(rows, *columns, f"{self.dataset}/{split}")
            self._read[split] = rows
        return self._read[split]

    def _class_names(self) -> tuple[str, ...]:
        """The class names of the label column; if it has none, the whole numbers up to the largest label."""
        rows = next((rows for split in ("train", "validation", "test") if (rows := self._read_official(split))), None)
        if rows is None:
            raise UserError(f"{self.dataset} has no rows in train, validation or test.")
        feature = rows.features["label"]
        if isinstance(feature, ClassLabel):
            return tuple(feature.names)
        greatest = max((label for label in rows["label"] if label is not None), default=-1)
        if not 0 <= greatest < MOST_CLASSES:
            raise UserError(
                f"{self.dataset} has labels up to {greatest}, which are no classes: they count from 0 up to "
                f"{MOST_CLASSES - 1}; name their column with `--data.label_column`."
            )
        return tuple(map(str, range(greatest + 1)))

    def held_out(self, split: str) -> bool:
        return (
            split == "validation"
            and self._read_official("train") is not None
            and self._read_official("validation") is None
        )

    def load(self, split: str) -> Dataset:
        rows, train = self._read_official(split), self._read_official("train")
        if split != "test" and train is not None and self._read_official("validation") is None:
            held_out = min(max(1, round(self.validation_share * len(train))), len(train) - 1)
            return benchmark.holdout_split(train, held_out, split, self.split_seed)
        if rows is None:
            raise UserError(f"{self.dataset} has no split {split!r}, which this run needs.")
        return rows

    def check(self, rows: Dataset, where: str) -> None:
        if not len(rows):
            raise UserError(f"{where} has no rows.")
        check_numbers(rows, self.task, where)

    def rows(self, split: str) -> Dataset:
        """As in `TaskData`; the split `predict` is the images of `predict_path`."""
        if split == "predict":
            assert self.predict_path is not None
            return read_images(self.predict_path)
        return super().rows(split)

    def predicted_splits(self) -> tuple[str, ...]:
        return ("predict",) if self.predict_path else self.prediction_splits()

    def row_identity(self, split: str) -> dict[str, list[Any]]:
        rows = self.rows(split)
        files = rows.flatten()["image.path"]
        numbers: dict[str, list[Any]] = {"row": list(range(len(rows)))}
        return numbers | ({"file": list(files)} if all(files) else {})

    def encode(self, split: str) -> Dataset | Pixels:
        """Turn a split into the features `pixels`, `label` and `row`.

        They come from a cache if that pays and nothing is random. Otherwise images are decoded at each access.
        """
        assert self.trainer is not None
        module = cast(ImageModule, self.trainer.lightning_module)
        if not hasattr(module, "reader"):
            raise UserError(f"`Images` goes with `--model ImageClassification`, not with {type(module).__name__}.")
        augmentation = self.augmentation if split == "train" else None
        pixels = Pixels(self.rows(split), module.reader, f"{self.task.name}/{split}", augmentation)
        # No cache for `predict`: the files of that folder may change under the same names.
        return pixels.from_cache() if augmentation is None and split != "predict" and pixels.cache_pays() else pixels

    @property
    def draws_each_epoch(self) -> bool:
        return self.augmentation is not None
