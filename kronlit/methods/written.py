"""Writes a method as plain values: the class as its import path, the arguments as JSON takes them."""

import functools
import re
from dataclasses import fields, is_dataclass
from typing import Any

from kronlit.methods.base import Method

LATER = {"later": True}
"""The metadata of a field whose default changes nothing of what a method meant before it had the field."""


def class_path(kind: Any) -> str:
    """The name under which files refer to a class or function: the bare name for kronlit's methods, else the path."""
    path = f"{kind.__module__}.{kind.__qualname__}"
    bare = path.startswith("kronlit.") or "<locals>" in path  # a local class can only be found by its bare name
    return kind.__name__ if bare and isinstance(kind, type) and issubclass(kind, Method) else path


def to_plain(value: Any) -> Any:
    """Turn a method or one of its arguments into a value for JSON that a parser can read again.

    Raises:
        ValueError: if it is an object without such a form.
    """
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: to_plain(each) for key, each in value.items()}
    if isinstance(value, functools.partial):  # a parser's partial has the class among its arguments
        kinds = [part for part in (value.func, *value.args) if isinstance(part, type)]
        if len(kinds) == 1:
            return {"class_path": class_path(kinds[0]), "init_args": to_plain(value.keywords)}
    elif isinstance(value, Method) or (is_dataclass(value) and not isinstance(value, type)):
        return {"class_path": class_path(type(value)), "init_args": to_plain(vars(value))}
    elif "<" not in getattr(value, "__qualname__", "<"):  # neither a lambda nor a local function
        return class_path(value)
    raise ValueError(f"{value!r} of a method has no form in a file: give it as a class, a number or a name.")


def describe_method(method: Method) -> str:
    """`repr(method)` without memory addresses, so that it is the same in every process."""
    if not is_dataclass(method):
        return without_addresses(repr(method))
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.repr}
    for field in fields(method):  # so that a checkpoint of a version without it means the same
        if field.metadata.get("later") and values[field.name] == field.default:
            del values[field.name]
    each = (f"{name}={describe_argument(value)}" for name, value in values.items())
    return f"{type(method).__qualname__}({', '.join(each)})"


def describe_argument(value: Any) -> str:
    """An argument of a method as text; its `repr` if it cannot be written to a file."""
    if isinstance(value, Method):
        return describe_method(value)
    if isinstance(value, tuple) and any(isinstance(each, Method) for each in value):
        return f"({', '.join(map(describe_argument, value))})"
    try:
        return str(to_plain(value)) if callable(value) else repr(value)
    except ValueError:
        return without_addresses(repr(value))


def without_addresses(text: str) -> str:
    """Remove memory addresses from the `repr` of an object."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
