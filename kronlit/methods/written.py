"""A method as files hold it: the class by its import path, its arguments as plain values."""

import functools
import re
from dataclasses import fields, is_dataclass
from typing import Any

from kronlit.methods.base import Method


def class_path(kind: Any) -> str:
    """What names a class or function: for a method of kronlit's own its name, else the whole import path."""
    path = f"{kind.__module__}.{kind.__qualname__}"
    bare = path.startswith("kronlit.") or "<locals>" in path  # the latter can be read only where it is known
    return kind.__name__ if bare and isinstance(kind, type) and issubclass(kind, Method) else path


def to_plain(value: Any) -> Any:
    """`value`, a method or an argument of one, as JSON takes it and a parser reads it again.

    Raises:
        ValueError: if it is an object that has no such form.
    """
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: to_plain(each) for key, each in value.items()}
    if isinstance(value, functools.partial):  # a parser's own has the class among its arguments
        kinds = [part for part in (value.func, *value.args) if isinstance(part, type)]
        if len(kinds) == 1:
            return {"class_path": class_path(kinds[0]), "init_args": to_plain(value.keywords)}
    elif isinstance(value, Method) or (is_dataclass(value) and not isinstance(value, type)):
        return {"class_path": class_path(type(value)), "init_args": to_plain(vars(value))}
    elif "<" not in getattr(value, "__qualname__", "<"):  # no lambda, no function in a function
        return class_path(value)
    raise ValueError(f"{value!r} of a method has no form in a file: give it as a class, a number or a name.")


def describe_method(method: Method) -> str:
    """`repr(method)`, but the same in every process where an argument is a class, a function or an object."""
    if not is_dataclass(method):
        return without_addresses(repr(method))
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.repr}
    each = (f"{name}={describe_argument(value)}" for name, value in values.items())
    return f"{type(method).__qualname__}({', '.join(each)})"


def describe_argument(value: Any) -> str:
    """An argument of a method in a text; one that has no form in a file by its `repr`."""
    try:
        return str(to_plain(value)) if callable(value) else repr(value)
    except ValueError:
        return without_addresses(repr(value))


def without_addresses(text: str) -> str:
    """The `repr` of an object without where it lies in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
