"""The error that a command prints as one line: what the user gave cannot be used."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What the user gave cannot be used. Its text names the argument, the value, the rule and the cure."""


@contextmanager
def user_errors(kinds: type[Exception] | tuple[type[Exception], ...] = ValueError, about: str = "") -> Iterator[None]:
    """Turn what a call raises about the user's input into a `UserError`.

    It goes around the one call that meets the input. Structures, adapters and methods raise `ValueError`, as they need
    torch alone; libraries raise what they have.

    Args:
        kinds: what the call raises about its input.
        about: the start of the message, such as the argument's name.
    """
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        raise UserError(f"{about}{error}") from error


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest of `names`, if one is near."""
    near = difflib.get_close_matches(str(name), names, 1)
    return f"; did you mean {near[0]!r}?" if near else "."
