"""Images from folders of parquet and of classes: columns, splits, mistakes, augmentation and the cache."""

import io
import shutil

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from fixtures.data import CLASSES, image_rows

from kronlit.data import Images
from kronlit.data.augmentation import Augmentation
from kronlit.data.batches import LengthGroupedBatches, SeededBatches
from kronlit.data.pixels import Pixels
from kronlit.modules.image_input import ImageInput


def png(array):
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def picture(height=20, width=24):
    """Red is the column, green the row, of each pixel, plus one: black is what is padded."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x + 1, y + 1, 0 * x], -1).astype(np.uint8)


def folder(path, splits, features=None):
    path.mkdir(exist_ok=True)
    for split, columns in splits.items():
        rows = columns if isinstance(columns, Dataset) else Dataset.from_dict(columns, features=features)
        if len(rows):
            rows.to_parquet(path / f"{split}.parquet")
        else:  # which datasets 4 cannot write
            pq.write_table(rows.data.table, path / f"{split}.parquet")
    return str(path)


# --- columns ---

PNG = png(picture())
STRUCT = {"bytes": PNG, "path": None}
LABEL = ClassLabel(names=["a", "b"])
COLUMNS = {
    "hub's names of CIFAR-10": ({"img": Image(), "label": LABEL}, {}),
    "hub's names of MNIST": ({"image": Image(), "label": LABEL}, {}),
    "whole numbers as classes": ({"image": Image(), "label": Value("int64")}, {}),
    "bytes and path, with no metadata": (
        {"image": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("int64")},
        {},
    ),
    "bytes alone": ({"picture": Value("binary"), "class": Value("int8")}, {}),
    "numbers beside classes": ({"id": Value("int64"), "image": Image(), "kind": LABEL}, {}),
    "several, one with the usual name": ({"mask": Image(), "image": Image(), "label": LABEL, "coarse": LABEL}, {}),
    "several, one named": (
        {"image": Image(), "fine": LABEL, "coarse": LABEL, "label": LABEL},
        {"label_column": "fine"},
    ),
    "several images, one named": ({"left": Image(), "right": Image(), "label": LABEL}, {"image_column": "right"}),
}


def value(feature, row):
    if isinstance(feature, (Image, dict)):
        return STRUCT
    return PNG if feature.dtype == "binary" else row % 2


@pytest.mark.parametrize("name", COLUMNS)
def test_image_and_class_are_found_by_what_columns_hold(name, tmp_path):
    features, options = COLUMNS[name]
    columns = {column: [value(feature, row) for row in range(20)] for column, feature in features.items()}
    data = Images(
        "mine", path=folder(tmp_path / "x", {"train": columns, "test": columns}, Features(features)), **options
    )
    rows = data.rows("test")
    assert list(rows["label"]) == [0, 1] * 10
    assert rows[0]["image"]["bytes"] == PNG
    assert data.task.labels == (("a", "b") if LABEL in features.values() else ("0", "1"))


def test_the_class_of_cifar_100_is_the_fine_one(tmp_path):
    features = Features({"img": Image(), "fine_label": LABEL, "coarse_label": LABEL})
    columns = {"img": [STRUCT] * 4, "fine_label": [0, 1, 0, 1], "coarse_label": [0] * 4}
    data = Images("cifar100", path=folder(tmp_path / "x", {"test": columns}, features))
    assert list(data.rows("test")["label"]) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        (
            {"picture": Value("string"), "label": LABEL},
            {},
            r"mine/train has no column of images: it has picture \(string\), label .*`--data.image_column`",
        ),
        (
            {"left": Image(), "right": Image(), "label": LABEL},
            {},
            r"several columns of images: it has left \(image\), right \(image\), label .*`--data.image_column`",
        ),
        ({"image": Image(), "name": Value("string")}, {}, r"no column of labels: it has image \(image\), name"),
        (
            {"image": Image(), "fine": LABEL, "coarse": LABEL},
            {},
            r"several columns of labels: .*fine .*`--data.label_column`",
        ),
        (
            {"image": Image(), "label": LABEL},
            {"label_column": "lable"},
            r"`data.label_column`='lable' is no column of labels of mine/train; it has image \(image\), label",
        ),
        (
            {"image": Image(), "label": LABEL},
            {"image_column": "label"},
            r"`data.image_column`='label' is no column of images of mine/train; it has image \(image\), label",
        ),
        ({"image": Image(), "boxes": Sequence(Value("int64"))}, {}, r"no column of labels"),
    ],
)
def test_columns_that_cannot_be_told_are_listed(features, options, words, tmp_path):
    filled = {"string": "x", "binary": PNG}
    columns = {
        name: [
            STRUCT
            if isinstance(f, Image)
            else [1]
            if isinstance(f, type(Sequence(Value("int64"))))
            else filled.get(f.dtype, 0)
        ]
        for name, f in features.items()
    }
    with pytest.raises(ValueError, match=words):
        Images("mine", path=folder(tmp_path / "x", {"train": columns}, Features(features)), **options)


# --- splits ---


def content(data, split):
    return [(row["image"]["bytes"], row["label"]) for row in data.rows(split)]


@pytest.mark.parametrize(("share", "held_out"), [(0.1, 4), (0.25, 10), (0.5, 20), (0.001, 1), (0.999, 40)])
def test_a_share_of_train_is_held_out_where_there_is_no_validation(share, held_out, images):
    data = Images("mine", path=str(images), validation_share=share)  # of 41 rows
    train, validation = content(data, "train"), content(data, "validation")
    assert (len(train), len(validation)) == (41 - held_out, held_out)
    whole = [(row["img"]["bytes"], row["label"]) for row in image_rows(41, 5).cast_column("img", Image(decode=False))]
    assert sorted(train + validation) == sorted(whole)


def test_what_is_held_out_depends_on_its_seed_alone(images):
    first, again, other = (
        content(Images("mine", path=str(images), split_seed=seed), "validation") for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_an_official_validation_split_is_used(name, tmp_path):
    path = folder(tmp_path / "x", {"train": image_rows(12), name: image_rows(5, 1), "test": image_rows(4, 2)})
    data = Images("mine", path=path)
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [12, 5, 4]


def test_parts_of_a_parquet_file_are_one(tmp_path):
    parts = {"train-00000-of-00002": image_rows(6), "train-00001-of-00002": image_rows(7, 1)}
    data = Images("mine", path=folder(tmp_path / "x", parts))
    assert len(data.rows("train")) + len(data.rows("validation")) == 13


def test_folders_of_classes_are_read(tmp_path):
    for split, classes in {"train": CLASSES, "test": CLASSES[1:]}.items():  # the test set lacks a class
        for number, name in enumerate(classes):
            (tmp_path / "x" / split / name).mkdir(parents=True)
            for copy in range(4 + number):
                PIL.Image.fromarray(picture() + copy).save(tmp_path / "x" / split / name / f"{copy}.png")
    data = Images("mine", path=str(tmp_path / "x"), validation_share=0.2)
    assert data.task.labels == CLASSES
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [12, 3, 9]
    assert sorted(data.rows("test")["label"]) == [1] * 4 + [2] * 5
    assert data.row_identity("test")["file"][0].endswith("x/test/dog/0.png")


def test_a_limit_draws_training_rows_by_its_seed(images):
    def drawn(seed):
        return content(Images("mine", path=str(images), max_train_samples=7, sample_seed=seed), "train")

    whole = content(Images("mine", path=str(images)), "train")
    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 7
    assert set(drawn(1)) <= set(whole)


# --- mistakes ---


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 2], "mine/test has the label 2; mine has 0 to 1"),
        ([0, None, 1], "mine/test has rows without a label"),
        ([0, -2, 1], "mine/test has the label -2"),
        ([], "test in `data.path`=.* cannot be read"),
    ],
)
def test_labels_are_checked(labels, words, tmp_path):
    features = Features({"image": Image(), "label": Value("int64")})
    splits = {
        "train": {"image": [STRUCT] * 4, "label": [0, 1, 0, 1]},
        "test": {"image": [STRUCT] * len(labels), "label": labels},
    }
    with pytest.raises(ValueError, match=words):
        Images("mine", path=folder(tmp_path / "x", splits, features)).rows("test")


def test_numbers_that_are_no_classes_are_refused(tmp_path):
    features = Features({"image": Image(), "label": Value("int64")})
    path = folder(tmp_path / "x", {"train": {"image": [STRUCT] * 2, "label": [0, 2_000_000_000]}}, features)
    with pytest.raises(ValueError, match=r"mine has labels up to 2000000000, which are no classes.*label_column"):
        Images("mine", path=path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"dataset": "cifar"},
            "`data.dataset`='cifar' is no data set that is known; there are cifar10, cifar100",
        ),
        ({"path": "/nowhere"}, r"`data.path`='/nowhere' holds no images: it needs train.parquet .*train/<class>/"),
        ({"validation_share": 0.0}, "`data.validation_share`=0.0 must lie between 0 and 1"),
        ({"validation_share": 1.0}, "`data.validation_share`=1.0 must lie between 0 and 1"),
        ({"batch_size": 0}, "`data.batch_size`=0"),
        ({"dataset": "mnist", "path": "/x", "augment": "crop_flip"}, "`data.augment`='crop_flip' mirrors.*mnist takes"),
        ({"dataset": "svhn", "augment": "resized_crop_flip"}, "`data.augment`='resized_crop_flip' mirrors.*svhn takes"),
        ({"dataset": "no-such/images"}, "no-such/images cannot be reached .*`--data.path`"),
        ({"dataset": "cifar10"}, "uoft-cs/cifar10 cannot be reached .*`--data.path`"),
    ],
)
def test_bad_arguments_name_themselves(options, words, images):
    if not {"path", "dataset"} & options.keys():
        options = {"path": str(images), **options}
    with pytest.raises(ValueError, match=words):
        Images(**{"dataset": "mine", **options})


def test_a_split_that_is_not_there_is_named(tmp_path):
    data = Images("mine", path=folder(tmp_path / "x", {"train": image_rows(6)}))
    with pytest.raises(ValueError, match="mine has no split 'test'"):
        data.rows("test")


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = folder(tmp_path / "x", {"train": image_rows(6)})
    (tmp_path / "x/train.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(ValueError, match=f"train in `data.path`='{path}' cannot be read"):
        Images("mine", path=path)


@pytest.mark.parametrize("package", ["PIL", "kornia"])
def test_a_package_that_is_missing_is_named_with_its_extra(package, images, monkeypatch):
    def missing(name, *_):
        return None if name == package else object()

    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(ValueError, match=r"missing: pip install 'kronlit\[images\]'"):
        Images("mine", path=str(images), augment="crop")


def test_without_kornia_there_is_no_augmentation_and_all_else(images, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "kornia" else object())
    assert len(Images("mine", path=str(images)).rows("train")) == 37


# --- pixels ---


@pytest.fixture
def reader(tiny_vit):
    return ImageInput(str(tiny_vit))


def rows_of(*contents):
    rows = Dataset.from_dict({"image": list(contents), "label": [1] * len(contents)})
    return rows.cast_column("image", Image(decode=False))


@pytest.mark.parametrize("damage", [PNG[: len(PNG) // 2], b"no image", None, b""])
@pytest.mark.parametrize("way", ["lazily", "cached"])
def test_a_damaged_image_is_named_with_row_and_file(damage, way, reader):
    pixels = Pixels(rows_of(STRUCT, STRUCT, {"bytes": damage, "path": "cat.png"}), reader, "mine/train")
    with pytest.raises(ValueError, match=r"mine/train, row 2 \(cat.png\): the image is damaged or not there"):
        pixels[2] if way == "lazily" else pixels.from_cache()


@pytest.mark.parametrize(("height", "width", "pays"), [(20, 24, True), (16, 16, True), (8, 16, False)])
def test_a_cache_pays_where_images_shrink(height, width, pays, reader):
    rows = rows_of(*[{"bytes": png(picture(height, width)), "path": None}] * 3)
    assert Pixels(rows, reader, "x").cache_pays() == pays


def test_a_cache_that_would_fill_the_disk_does_not_pay(reader, monkeypatch):
    pixels = Pixels(rows_of(STRUCT, STRUCT), reader, "x")
    assert pixels.cache_pays()
    monkeypatch.setattr("kronlit.data.pixels.CACHE_BYTES", 2 * 3 * 16 * 16 - 1)
    assert not pixels.cache_pays()


def test_what_is_cached_is_what_is_decoded_and_is_decoded_once(reader, monkeypatch, tmp_path):
    pixels = Pixels(rows_of(STRUCT, {"bytes": png(picture()[::-1]), "path": None}), reader, "x")
    assert [pixels.from_cache()[row] for row in (0, 1)] == [pixels[row] for row in (0, 1)]
    assert pixels[0]["pixels"] != pixels[1]["pixels"]
    monkeypatch.setattr(Pixels, "__getitem__", None)
    assert len(pixels.from_cache()) == 2
    assert len(list((tmp_path / "cache/kronlit").glob("*.arrow"))) == 1


def test_a_model_that_reads_images_otherwise_has_a_cache_of_its_own(tiny_vit, tmp_path, reader):
    shutil.copytree(tiny_vit, tmp_path / "other")
    file = tmp_path / "other/preprocessor_config.json"
    file.write_text(file.read_text().replace('"resample": 2', '"resample": 0'))
    other = ImageInput(str(tmp_path / "other"))
    rows = rows_of(
        {"bytes": png(np.random.default_rng(0).integers(255, size=(20, 24, 3), dtype=np.uint8)), "path": None}
    )
    assert Pixels(rows, reader, "x").from_cache()[0] != Pixels(rows, other, "x").from_cache()[0]


# --- augmentation ---


def augmented(kind, seeds, array=None):
    picture_ = PIL.Image.fromarray(picture() if array is None else array)
    return [np.asarray(Augmentation(kind)(picture_, seed)) for seed in seeds]


def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_come():
    padded = np.pad(picture(), ((2, 2), (3, 3), (0, 0)))  # an eighth of 20 and of 24
    windows = {padded[y : y + 20, x : x + 24].tobytes(): (y, x) for y in range(5) for x in range(7)}
    found = [windows[image.tobytes()] for image in augmented("crop", range(600))]
    counts = np.bincount([y * 7 + x for y, x in found], minlength=35)
    # Uniform: of 600 draws over 35 windows, the chi-squared statistic (34 degrees) is below 71 in all but 0.02 %
    assert ((counts - 600 / 35) ** 2 / (600 / 35)).sum() < 71


@pytest.mark.parametrize("channels", [1, 3])
def test_every_other_image_is_mirrored(channels):
    array = picture() if channels == 3 else picture()[..., 0]
    padded = np.pad(array, ((2, 2), (3, 3), (0, 0))[: array.ndim])
    plain = {padded[y : y + 20, x : x + 24].tobytes() for y in range(5) for x in range(7)}
    mirrored = {padded[:, ::-1][y : y + 20, x : x + 24].tobytes() for y in range(5) for x in range(7)}
    found = [image.tobytes() for image in augmented("crop_flip", range(200), array)]
    assert all(image in plain | mirrored for image in found)
    assert 70 <= sum(image in mirrored - plain for image in found) <= 130  # four standard deviations


@pytest.mark.parametrize("kind", ["resized_crop", "resized_crop_flip"])
def test_a_resized_crop_is_a_window_of_the_area_and_the_shape_that_it_should_have(kind):
    array, mirrored, corners = picture(60, 80), 0, []
    for image in augmented(kind, range(300), array):
        height, width, _ = image.shape
        x, y = image[0, :, 0].min() - 1, image[0, 0, 1] - 1
        window = array[y : y + height, x : x + width]
        corners.append((x, y, x + width, y + height))
        mirrored += (image == window[:, ::-1]).all()
        assert (image == window).all() or (image == window[:, ::-1]).all()
        assert 0.075 <= height * width / (60 * 80) <= 1  # whole pixels
        assert 0.7 <= width / height <= 1.4
    assert (mirrored > 0) == kind.endswith("flip")
    lefts, tops, rights, bottoms = zip(*corners, strict=True)
    assert (min(lefts), min(tops), max(rights), max(bottoms)) == (0, 0, 80, 60)


@pytest.mark.parametrize("kind", ["crop", "crop_flip", "resized_crop", "resized_crop_flip"])
def test_draws_depend_on_the_seed_alone_and_leave_torchs_generator_as_it_was(kind):
    before = torch.get_rng_state()
    first = augmented(kind, range(8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = augmented(kind, range(8))
    assert all((a.shape == b.shape) and (a == b).all() for a, b in zip(first, again, strict=True))
    assert len({image.tobytes() for image in first}) > 4


def test_a_row_is_augmented_by_seed_epoch_and_row(reader):
    pixels = Pixels(rows_of(*[STRUCT] * 12), reader, "x", Augmentation("resized_crop"))
    keys = [(seed, epoch, row) for seed in (0, 1) for epoch in (0, 1) for row in (0, 11)]
    made = {key: pixels[key] for key in keys}
    assert len({row["pixels"] for row in made.values()}) == len(keys)
    assert all(pixels[key] == made[key] for key in reversed(keys))
    assert pixels[11] == Pixels(rows_of(*[STRUCT] * 12), reader, "x")[11]  # asked for by its number alone, it is plain


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_ask_for_rows_by_seed_and_epoch(world_size):
    options = ([0] * 23, 4, True, 7, world_size - 1, world_size)
    seeded, plain = SeededBatches(*options), LengthGroupedBatches(*options)
    seeded.epoch = plain.epoch = 3
    assert list(seeded) == [[(7, 3, row) for row in rows] for rows in plain]


def test_a_split_without_rows_is_named(images):
    data = Images("mine", path=str(images))
    with pytest.raises(ValueError, match="mine/test has no rows"):
        data.check(data.rows("test").select([]), "mine/test")
