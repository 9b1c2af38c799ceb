"""Which arguments of a class survive when a later config or option replaces the class by another one."""

from functools import partial
from typing import Any

import jsonargparse._typehints as typehints

DISCARD: Any = typehints.discard_init_args_on_class_path_change
"""jsonargparse's own function, which drops the arguments that the new class does not take."""


def own_defaults_for(*kinds: type[Any]) -> None:
    """Let a subclass of one of `kinds` that replaces another start from its own defaults.

    jsonargparse keeps the arguments that both classes take. This is right for models and data, where `plm`, `lr`,
    `path` and `batch_size` always mean the same. But the `sites`, `scale` and `trains` of a method belong to its paper,
    and so does the `std` of a structure. jsonargparse has no setting for this, so this replaces its function.
    """
    typehints.discard_init_args_on_class_path_change = partial(discard_all_of, kinds)


def discard_all_of(kinds: tuple[type[Any], ...], parser: Any, previous: Any, value: Any) -> None:
    """Drop all arguments of one of `kinds` that is replaced by another class, then do what jsonargparse does."""
    if previous and "init_args" in previous and another_class(kinds, previous["class_path"], value["class_path"]):
        for name in list(vars(previous["init_args"])):
            previous["init_args"].pop(name)
    DISCARD(parser, previous, value)


def another_class(kinds: tuple[type[Any], ...], old: str, new: str) -> bool:
    """Whether two class paths name two different classes, the first of them one of `kinds`."""
    before, after = (typehints.import_object(typehints.resolve_class_path_by_name(kinds, path)) for path in (old, new))
    return before is not after and isinstance(before, type) and issubclass(before, kinds)
