"""Rejects values that jsonargparse lets through by mistake: null, and numbers that are too large to compute with."""

import inspect
from contextlib import suppress
from pydoc import locate
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

from kronlit.config.signatures import constructors, parameters
from kronlit.config.user_error import UserError

GREATEST_INTEGER = 2**63 - 1
GREATEST_FLOAT = 3.4028234663852886e38
"""The largest numbers that 64 bits and float32 hold."""


def check_arguments(kind: type[Any], values: Namespace, key: str, float32: bool = True) -> None:
    """Check the arguments of a class, and those of the classes among them.

    Args:
        kind: the class.
        values: the value of each argument.
        key: the user's name for the class, such as `model.method`.
        float32: whether its numbers are used in float32.

    Raises:
        ValueError: if a value is null although its annotation has no None, or does not fit 64 bits or float32.
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
    """The types and the defaults of a constructor's arguments, including those it passes on to its base classes."""
    hints: dict[str, Any] = {}
    for constructor in reversed(constructors(kind)):
        hints |= hints_of(constructor)
    return hints, {name: one.default for name, one in parameters(kind).items()}


def hints_of(function: Any) -> dict[str, Any]:
    """The types of a function's arguments, without types that are imported only for type checkers."""
    found: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(function).items():
        with suppress(NameError, TypeError, AttributeError):
            found |= get_type_hints(SimpleNamespace(__annotations__={name: hint}), function.__globals__)
    return found


def takes_null(hint: Any, default: Any) -> bool:
    """Whether an argument accepts None, by its type or its default.

    An argument without a default counts too: jsonargparse asks for it, or a link fills it in.
    """
    if default in (None, inspect.Parameter.empty) or hint in (Any, None, type(None)):
        return True
    return get_origin(hint) in (Union, UnionType) and any(takes_null(part, ...) for part in get_args(hint))


def type_name(hint: Any) -> str:
    """The name of a type, for a message."""
    return f"of type {' or '.join(type_names(hint))}".replace("typing.", "")


def type_names(hint: Any) -> list[str]:
    """The names of the types that a hint joins; words that it takes stand for themselves."""
    if get_origin(hint) in (Union, UnionType):
        return [name for part in get_args(hint) for name in type_names(part)]
    if get_origin(hint) is Literal:
        return [repr(value) for value in get_args(hint)]
    return [hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)]


def check_numbers(value: Any, argument: str, float32: bool) -> None:
    """Raise `ValueError` if a number in `value` is too large to compute with."""
    if isinstance(value, (list, tuple)):
        for part in value:
            check_numbers(part, argument, float32)
    elif isinstance(value, int) and abs(value) > GREATEST_INTEGER:
        raise UserError(f"`{argument}`={value} must be within 64 bits, up to {GREATEST_INTEGER}.")
    elif float32 and isinstance(value, float) and not abs(value) <= GREATEST_FLOAT:
        raise UserError(f"`{argument}`={value} must be a number that float32 holds, up to 3.4e38.")
