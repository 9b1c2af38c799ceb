"""The method that an adapter names: kronlit's own, or one from a module of the user's."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

from kronlit.errors import subclasses
from kronlit.methods import Method

IMPORTABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def method_class(path: str, where: str, imports: bool) -> type[Method] | None:
    """The class that `path`, a bare name or a whole import path, names; `None` for a bare name that none has.

    Args:
        path: as `kronlit.methods.written.class_path` writes it.
        where: the file that says so.
        imports: whether its module may be imported; without, it must have been.

    Raises:
        ValueError: if its module is missing, may not be imported, or has no such method.
    """
    module, _, name = path.rpartition(".")
    if (found := known(path)) or not module:
        return found
    if not imports:
        raise ValueError(
            f"{where}: `method`={path!r} is not kronlit's own, and an adapter of the hub is not to say what is "
            f"imported: import {module} before, or, if you trust it, give `kronlit.load` `trust_code=True`."
        )
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        imported = import_module(".".join(parts[:end]), path, where)
        if found := known(path):
            return found
    found = getattr(imported, name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{where}: `method`={path!r}: the module {module} has no method {name}.")
    return found


def known(path: str) -> type[Method] | None:
    """The class that is called so and imported already; kronlit's own before others of the same name."""
    found = [kind for kind in subclasses(Method) if path in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")]
    return min(found, key=lambda kind: not kind.__module__.startswith("kronlit."), default=None)


def import_module(name: str, path: str, where: str) -> Any:
    """The module `name`, of which `path` is a class.

    Raises:
        ValueError: if it can't be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{where}: `method`={path!r} needs the module {error.name}, which is not found: work in its folder, or "
            "add that to PYTHONPATH."
        ) from error
    except Exception as error:  # whatever is wrong in that file
        raise ValueError(
            f"{where}: `method`={path!r}: the module {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def imported_names(value: Any) -> Iterator[str]:
    """The texts in an adapter's `value` that may name something to import."""
    if isinstance(value, str) and IMPORTABLE.fullmatch(value):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from imported_names(each)
    elif isinstance(value, list):
        for each in value:
            yield from imported_names(each)
