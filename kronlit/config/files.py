"""The YAML files that the command line names, and what such a file says."""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from kronlit.config.user_error import UserError
from kronlit.config.words import values_of


def config_files() -> list[str]:
    """The files that the command line names with `--config`."""
    return values_of(sys.argv, "--config", "-c")


def yaml_content(path: str | Path, named: str = "") -> Any:
    """What a YAML file says.

    Args:
        path: the file.
        named: how the user knows it, such as `config`='mine.yaml'; by default its path.

    Raises:
        ValueError: if it cannot be read.
    """
    named = named or repr(str(path))
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{named} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{named} is no YAML: {error}.") from error


def read_yaml(path: str | Path, named: str = "") -> dict[str, Any]:
    """`yaml_content` of a file of keys and values.

    Raises:
        ValueError: if it holds anything else.
    """
    content = yaml_content(path, named)
    if not isinstance(content, dict):
        raise UserError(f"{named or repr(str(path))} must hold keys and values, as the files in configs/ do.")
    return content


def is_at(path: Path, file: int) -> bool:
    """Whether an open file still has its name: its last holder may have removed it between opening and locking."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
