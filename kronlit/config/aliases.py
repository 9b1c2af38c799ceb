"""Guards against YAML aliases, with which a few lines can expand to more values than fit in memory."""

from pathlib import Path

import yaml

from kronlit.config.files import config_files
from kronlit.config.user_error import UserError

MANY = 100_000
"""The most values that a config may have; real ones have far fewer."""


def check_configs() -> None:
    """Raise `ValueError` if a config on the command line expands to more than `MANY` values."""
    for path in config_files():
        check_aliases(path)


def check_aliases(path: str | Path) -> None:
    """Raise `ValueError` if a YAML file expands to more than `MANY` values, or contains itself.

    A file that cannot be read is reported later, by whoever reads it.
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
    """The number of values that a node expands to; infinite if it contains itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # the answer for a node that contains itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(count_values(child, known) for child in children)
    return known[id(node)]
