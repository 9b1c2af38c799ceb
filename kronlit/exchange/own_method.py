"""Finds the method that an adapter names: kronlit's own, or one from the user's module."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kronlit.config.explain import subclasses
from kronlit.config.user_error import UserError
from kronlit.methods import Method


@dataclass(frozen=True)
class Cure:
    """What to tell the user if an adapter from the hub names something to import.

    Args:
        method: what to do about its method; `{module}` stands for the module to import.
        argument: what to do about anything else.
    """

    method: str
    argument: str


LOADING = Cure("import {module} before", "if you trust it, give `kronlit.load` `trust_code=True`")


def method_class(path: str, where: str, imports: bool, cure: Cure = LOADING) -> type[Method] | None:
    """The method class of a bare name or a whole import path; `None` for a bare name that no class has.

    Args:
        path: the name, as `kronlit.methods.written.class_path` writes it.
        where: the file that names it, for messages.
        imports: whether its module may be imported; otherwise it must be imported already.
        cure: what to tell the user if it may not.

    Raises:
        ValueError: if its module is missing, may not be imported, or has no such method.
    """
    module, _, name = path.rpartition(".")
    if (found := find_imported(path)) or not module:
        return found
    if not imports:
        raise UserError(
            f"{where}: `method`={path!r} is not kronlit's own, and an adapter of the hub is not to say what is "
            f"imported: {cure.method.format(module=module)}, or, {cure.argument}."
        )
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        imported = import_module(".".join(parts[:end]), path, where)
        if found := find_imported(path):
            return found
    found = getattr(imported, name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UserError(f"{where}: `method`={path!r}: the module {module} has no method {name}.")
    return found


def find_imported(path: str) -> type[Method] | None:
    """The imported class of this name; kronlit's own comes before others of the same name."""
    found = [kind for kind in subclasses(Method) if path in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")]
    return min(found, key=lambda kind: not kind.__module__.startswith("kronlit."), default=None)


def import_module(name: str, path: str, where: str) -> Any:
    """Import the module `name`, which the class `path` needs.

    Raises:
        ValueError: if it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: `method`={path!r} needs the module {error.name}, which is not found: work in its folder, or "
            "add that to PYTHONPATH."
        ) from error
    except Exception as error:  # importing the user's file can raise anything
        raise UserError(
            f"{where}: `method`={path!r}: the module {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def check_arguments(method: dict[str, Any], own: bool, where: str, cure: Cure = LOADING) -> None:
    """Raise `ValueError` if the arguments of a method in an adapter from the hub might import a module.

    Args:
        method: what it says.
        own: whether it is kronlit's own method, whose `sites` name nothing to import.
        where: the file that says so.
        cure: what the user can do.
    """
    name = method.get("class_path")
    if others := sorted(method.keys() - {"class_path", "init_args"}):
        raise UserError(
            f"{where}: `method`={name!r} has `{others[0]}`; it may have `class_path` and `init_args`: leave it out."
        )
    arguments = method.get("init_args")
    if own and isinstance(arguments, dict):  # a site's pattern may look like the name of something to import
        arguments = {key: value for key, value in arguments.items() if key != "sites"}
    if other := next(imported_names(arguments), None):
        raise UserError(
            f"{where}: `method`={name!r} has the argument {other!r}, which might be imported: {cure.argument}."
        )


def imported_names(value: Any) -> Iterator[str]:
    """The texts in `value` that may name something to import."""
    if isinstance(value, str) and may_import(value):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from imported_names(key)
            yield from imported_names(each)
    elif isinstance(value, list):
        for each in value:
            yield from imported_names(each)


def may_import(text: str) -> bool:
    """Whether `text` might name a class that is not kronlit's own, if a parser reads it as a class.

    This takes a dotted name, or something that YAML turns into one: a mapping, several lines, or quotes, in which a dot
    can be escaped.
    """
    if is_structure(text):
        return False
    dotted = any(
        f"_{before[-1:]}".isidentifier() and before and after[:1].isidentifier()
        for before, after in pairwise(text.split("."))
    )
    return dotted or len(text.splitlines()) > 1 or any(sign in text for sign in '{:"\n\r')


def is_structure(path: str) -> bool:
    """Whether `path` names an imported class of kronlit that methods are made of."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    parts = ("kronlit.structured.", "kronlit.adapters.", "kronlit.methods.")
    return path.startswith(parts) and isinstance(found, type) and f"{found.__module__}.".startswith(parts)
