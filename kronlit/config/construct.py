"""What constructors say of the arguments that a parser gives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jsonargparse import add_instantiator

from kronlit.config.user_error import UserError, user_errors

REFUSED: ContextVar[list[UserError] | None] = ContextVar("REFUSED", default=None)
"""Of the parser that makes objects now, what their constructors refused; `None` while none of ours does."""


@contextmanager
def constructors_heard() -> Iterator[None]:
    """Raise what a constructor said as a `UserError`, while a parser makes objects.

    Where an option takes one of several types, jsonargparse writes what all of them said into a text of its own.
    """
    if REFUSED.get() is not None:  # for an argument that is a class, jsonargparse has a parser within this one
        yield
        return
    token = REFUSED.set([])
    try:
        yield
    except ValueError:
        if refused := REFUSED.get():
            raise refused[0] from refused[0].__cause__
        raise
    finally:
        REFUSED.reset(token)


def construct(kind: type[Any], *args: Any, **kwargs: Any) -> Any:
    """An object of a class, as jsonargparse makes it."""
    if (refused := REFUSED.get()) is None:
        return kind(*args, **kwargs)
    about = f"`trainer`: {kind.__name__}: " if of_lightning(kind) else ""
    try:
        with user_errors(refusals(kind), about):
            return kind(*args, **kwargs)
    except UserError as error:
        refused.append(error)
        raise


add_instantiator(construct, object)  # for all classes; a parser's own method for it is deprecated


def of_lightning(kind: type[Any]) -> bool:
    """Whether a class is one of Lightning's own."""
    return kind.__module__.startswith("lightning.")


def refusals(kind: type[Any]) -> tuple[type[Exception], ...]:
    """What the constructor of a class raises on arguments that it does not take."""
    if not of_lightning(kind):
        return (ValueError,)
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # late: help needs no torch

    return MisconfigurationException, ValueError, TypeError, ImportError  # the last: an optional package is missing
