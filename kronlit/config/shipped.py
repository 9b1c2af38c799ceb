"""The YAMLs that come with kronlit, found by name from any folder."""

from os.path import isfile
from pathlib import Path


def shipped_folder() -> Path:
    """The folder of the YAMLs: inside the package if it was installed from a wheel, else beside it."""
    package = Path(__file__).parents[1]
    inside = package / "shipped_configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_path(name: str, folder: str = "") -> str:
    """The file that `--config` names: the user's own file if there is one, else one that comes with kronlit.

    Args:
        name: a path; or the name of a shipped YAML such as `krona_mnli`, `methods/lora` or `configs/krona_mnli.yaml`.
        folder: the subfolder of the shipped YAMLs to look in first.
    """
    if isfile(name):  # not `Path.is_file`, which raises if the name is too long
        return name
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    for inside in (f"{folder}/{stem}", stem) if folder else (stem,):
        path = shipped_folder() / f"{inside}.yaml"
        if isfile(path) and path.resolve().is_relative_to(shipped_folder().resolve()):
            return str(path)
    return name


def shipped_names() -> list[str]:
    """The names of all shipped YAMLs, as `config_path` takes them."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
