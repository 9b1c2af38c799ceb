"""Parsers whose errors are one line."""

from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from kronlit.config.explain import explained
from kronlit.config.mistakes import fail


class Parser(ArgumentParser):
    """A parser whose errors are one line and exit code 2, and that takes no abbreviations."""

    bases: dict[str, type[Any]] = {}
    """Option to the class of which it names a subclass."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = explained(message, self, self.bases)
        if self.exit_on_error:
            fail(line)
        raise ValueError(line)

    def made(self, values: Namespace) -> Namespace:
        """The objects that `values` describe."""
        instantiate = getattr(self, "instantiate", None) or self.instantiate_classes  # its name before 4.49
        return instantiate(values)
