"""The YAMLs that come with kronlit, found by name from any folder."""

from os.path import isfile
from pathlib import Path


def shipped_folder() -> Path:
    """The folder of the YAMLs: in the package where it was installed from a wheel, else beside it."""
    package = Path(__file__).parents[1]
    inside = package / "shipped_configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_path(name: str, folder: str = "") -> str:
    """The file that `--config` names: a file of one's own first, else one that comes with kronlit.

    Args:
        name: a path; or the name of a shipped YAML such as `krona_mnli`, `methods/lora` or `configs/krona_mnli.yaml`.
        folder: of the shipped ones, where to look first.
    """
    if isfile(name):  # which a name that is too long is not, where Path would raise
        return name
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    for inside in (f"{folder}/{stem}", stem) if folder else (stem,):
        path = shipped_folder() / f"{inside}.yaml"
        if isfile(path) and path.resolve().is_relative_to(shipped_folder().resolve()):
            return str(path)
    return name
