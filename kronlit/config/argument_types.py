"""Values that jsonargparse lets through though an argument does not take them: null, and numbers beyond all use."""

import inspect
from contextlib import suppress
from pydoc import locate
from types import SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

from kronlit.config.signatures import constructors, parameters
from kronlit.config.user_error import UserError

GREATEST_INTEGER = 2**63 - 1
GREATEST_FLOAT = 3.4028234663852886e38
"""What 64 bits and float32 hold."""


def check_arguments(kind: type[Any], values: Namespace, key: str, float32: bool = True) -> None:
    """Check the values that a class is to be made with, and those of the classes in it.

    Args:
        kind: the class.
        values: by argument.
        key: what the user calls it, such as `model.method`.
        float32: whether its numbers are computed with.

    Raises:
        ValueError: if one is null where the annotation has no None, or no number of 64 bits or of float32.
    """
    hints, defaults = annotations(kind)
    for name, value in vars(values).items():
        if value is None and not takes_null(hints.get(name, Any), defaults.get(name)):
            raise UserError(
                f"`{key}.{name}`=null must be {type_name(hints[name])}: leave it out for {defaults[name]!r}."
            )
        check_class(value, f"{key}.{name}", float32)
        check_numbers(value, f"{key}.{name}", float32)


def check_class(spec: Any, key: str, float32: bool = True) -> None:
    """`check_arguments` of a class that is named by its path; of anything else nothing."""
    if not isinstance(spec, Namespace) or "class_path" not in spec:
        return
    if isinstance(kind := locate(spec["class_path"]), type):
        check_arguments(kind, spec.get("init_args") or Namespace(), key, float32)


def annotations(kind: type[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """By argument of a class's constructor, or of one that it hands the rest on to, its type and its default."""
    hints: dict[str, Any] = {}
    for constructor in reversed(constructors(kind)):
        hints |= hints_of(constructor)
    return hints, {name: one.default for name, one in parameters(kind).items()}


def hints_of(function: Any) -> dict[str, Any]:
    """The types of a function's arguments, without those that are imported for type checkers alone."""
    found: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(function).items():
        with suppress(NameError, TypeError, AttributeError):
            found |= get_type_hints(SimpleNamespace(__annotations__={name: hint}), function.__globals__)
    return found


def takes_null(hint: Any, default: Any) -> bool:
    """Whether None is a value of an argument, by its type or as its default.

    One without a default is jsonargparse's to ask for, or filled in by a link.
    """
    if default in (None, inspect.Parameter.empty) or hint in (Any, None, type(None)):
        return True
    return get_origin(hint) in (Union, UnionType) and any(takes_null(part, ...) for part in get_args(hint))


def type_name(hint: Any) -> str:
    """A type in a message."""
    return f"of type {hint.__name__ if isinstance(hint, type) and not get_args(hint) else hint}".replace("typing.", "")


def check_numbers(value: Any, argument: str, float32: bool) -> None:
    """Raise `ValueError` if a number in `value` is beyond what is computed with."""
    if isinstance(value, (list, tuple)):
        for part in value:
            check_numbers(part, argument, float32)
    elif isinstance(value, int) and abs(value) > GREATEST_INTEGER:
        raise UserError(f"`{argument}`={value} must be within 64 bits, up to {GREATEST_INTEGER}.")
    elif float32 and isinstance(value, float) and not abs(value) <= GREATEST_FLOAT:
        raise UserError(f"`{argument}`={value} must be a number that float32 holds, up to 3.4e38.")
