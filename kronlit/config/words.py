"""The words of a command line."""

from collections.abc import Sequence


def values_of(words: Sequence[str], *options: str) -> list[str]:
    """The values that some options are given among the words of a command line, in order.

    Args:
        words: of the command line.
        options: as they are written, such as `--config` and `-c`.
    """
    values = []
    for number, word in enumerate(words, start=1):
        name, equals, value = word.partition("=")
        if name in options and (equals or number < len(words)):
            values.append(value if equals else words[number])
    return values
