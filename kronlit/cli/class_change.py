"""What is left of a class's arguments where a later config or option names another class in its place."""

from typing import Any

import jsonargparse._typehints as typehints

from kronlit.methods import Method

DISCARD: Any = typehints.discard_init_args_on_class_path_change
"""jsonargparse's own function, which drops the arguments that the new class does not take."""


def own_defaults_for_methods() -> None:
    """Let a method that is named in place of another start from its own defaults.

    jsonargparse keeps the arguments that both classes take. For models and data that is right: `plm`, `lr`, `path` and
    `batch_size` mean the same in all of them. A method's `sites`, `scale` and `trains` belong to its paper. There is no
    setting for it, so its function is replaced.
    """
    typehints.discard_init_args_on_class_path_change = discard_all_of_methods


def discard_all_of_methods(parser: Any, previous: Any, value: Any) -> None:
    """Jsonargparse's function, after all arguments of a method that another takes the place of are gone."""
    if previous and "init_args" in previous and another_method(previous["class_path"], value["class_path"]):
        for name in list(vars(previous["init_args"])):
            previous["init_args"].pop(name)
    DISCARD(parser, previous, value)


def another_method(old: str, new: str) -> bool:
    """Whether two paths of classes are those of two methods."""
    before, after = (typehints.import_object(typehints.resolve_class_path_by_name(Method, path)) for path in (old, new))
    return before is not after and isinstance(before, type) and issubclass(before, Method)
