"""Which arguments of a class survive when a later config or option replaces the class by another one."""

from typing import Any

import jsonargparse._typehints as typehints

from kronlit.methods import Method

DISCARD: Any = typehints.discard_init_args_on_class_path_change
"""jsonargparse's own function, which drops the arguments that the new class does not take."""


def own_defaults_for_methods() -> None:
    """Let a method that replaces another one start from its own defaults.

    jsonargparse keeps the arguments that both classes take. This is right for models and data, where `plm`, `lr`,
    `path` and `batch_size` always mean the same. But the `sites`, `scale` and `trains` of a method belong to its paper.
    jsonargparse has no setting for this, so this replaces its function.
    """
    typehints.discard_init_args_on_class_path_change = discard_all_of_methods


def discard_all_of_methods(parser: Any, previous: Any, value: Any) -> None:
    """Drop all arguments of a method that is replaced by another, then do what jsonargparse does."""
    if previous and "init_args" in previous and another_method(previous["class_path"], value["class_path"]):
        for name in list(vars(previous["init_args"])):
            previous["init_args"].pop(name)
    DISCARD(parser, previous, value)


def another_method(old: str, new: str) -> bool:
    """Whether two class paths name two different methods."""
    before, after = (typehints.import_object(typehints.resolve_class_path_by_name(Method, path)) for path in (old, new))
    return before is not after and isinstance(before, type) and issubclass(before, Method)
