"""A parser that reports errors in one line."""

from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from kronlit.config.construct import constructors_heard
from kronlit.config.explain import explain_error
from kronlit.config.mistakes import fail
from kronlit.config.user_error import UserError


class Parser(ArgumentParser):
    """A parser that reports errors in one line with exit code 2, and takes no abbreviations."""

    bases: dict[str, type[Any]] = {}
    """For each option that names a class, the base of the classes that it may name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = explain_error(message, self, self.bases)
        if self.exit_on_error:
            fail(line)
        raise UserError(line)

    def instantiate(self, namespace: Namespace, **kwargs: Any) -> Namespace:
        """The objects that `namespace` describes.

        Raises:
            UserError: if a constructor does not take its arguments.
        """
        with constructors_heard():
            return super().instantiate(namespace, **kwargs)
