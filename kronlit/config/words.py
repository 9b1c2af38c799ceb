"""The words of a command line."""

from collections.abc import Iterator, Sequence
from itertools import pairwise


def values_of(words: Sequence[str], *options: str) -> list[str]:
    """The values that some options are given among the words of a command line, in order.

    Args:
        words: of the command line.
        options: as they are written, such as `--config` and `-c`.
    """

    def values() -> Iterator[str]:
        for word, following in pairwise([*words, ""]):
            name, equals, value = word.partition("=")
            if name in options and (equals or following):
                yield value if equals else following

    return list(values())
