"""YAML's aliases, with which a few lines can stand for more values than a memory holds."""

from pathlib import Path

import yaml

from kronlit.config.files import config_files
from kronlit.config.user_error import UserError

MANY = 100_000
"""More values than this no config has."""


def check_configs() -> None:
    """Raise `ValueError` if a config that the command line names stands for more than `MANY` values."""
    for path in config_files():
        check_aliases(path)


def check_aliases(path: str | Path) -> None:
    """Raise `ValueError` if a YAML file stands for more than `MANY` values, or for one that holds itself.

    One that cannot be read is left to who reads it.
    """
    try:
        node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"`config`={str(path)!r} is not UTF-8 text: {error}.") from error
    except (OSError, yaml.YAMLError):
        return
    if node is not None and count_values(node, {}) > MANY:
        raise UserError(
            f"`config`={str(path)!r} stands for more than {MANY:,} values once its aliases (*name) are filled in: "
            "write out what is meant."
        )


def count_values(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for; infinitely many if it holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # for whoever comes here again before it is known
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(count_values(child, known) for child in children)
    return known[id(node)]
