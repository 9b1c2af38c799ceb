"""The image data sets that have a short name: where they are on the hub, as parquet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageSet:
    """Where a data set is, and what its columns do not tell.

    Args:
        hub_id: id of the data set on the hub.
        config: name of its configuration there, if it has several.
        label_column: the column of the classes, if several columns hold classes.
        mirrors: whether mirroring an image keeps its class; not so for digits.
    """

    hub_id: str
    config: str | None = None
    label_column: str | None = None
    mirrors: bool = True


IMAGE_SETS = {
    "cifar10": ImageSet("uoft-cs/cifar10"),
    "cifar100": ImageSet("uoft-cs/cifar100", label_column="fine_label"),
    "svhn": ImageSet("ufldl-stanford/svhn", "cropped_digits", mirrors=False),
    "mnist": ImageSet("ylecun/mnist", mirrors=False),
    "stl10": ImageSet("tanganke/stl10"),
    "sun397": ImageSet("tanganke/sun397"),
    "dtd": ImageSet("tanganke/dtd"),
}
