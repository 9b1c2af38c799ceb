"""What the constructor of a class takes, with what it hands on to those of its bases."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any


def constructors(kind: type[Any]) -> list[Callable[..., Any]]:
    """The constructor of a class, then those of its bases that get its `**kwargs`."""
    found: list[Callable[..., Any]] = []
    for cls in kind.__mro__:
        if "__init__" in vars(cls):
            found.append(vars(cls)["__init__"])
            if all(one.kind is not Parameter.VAR_KEYWORD for one in signature(found[-1]).parameters.values()):
                break
    return found


def parameters(kind: type[Any]) -> dict[str, Parameter]:
    """All arguments of `constructors`, by name, even those that one of them sets in the next."""
    found: dict[str, Parameter] = {}
    for constructor in constructors(kind):
        _, *own = signature(constructor).parameters.values()
        for one in own:
            if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                found.setdefault(one.name, one)
    return found
