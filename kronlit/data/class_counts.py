"""Counts the rows of each class, and the accuracy of always answering the most frequent one."""

from collections import Counter
from collections.abc import Iterable

MOST_NAMED = 12
"""The most classes that a line names; of more classes, it names the most frequent."""


def class_counts(names: tuple[str, ...], labels: dict[str, list[int]]) -> str:
    """One line for each split.

    Args:
        names: names of the classes.
        labels: for `train` and each other split, the labels of its rows.
    """
    usual = Counter(labels["train"]).most_common(1)[0][0]
    lines = []
    for split, found in labels.items():
        line = f"{split}: {len(found):,} rows: {count_classes(names, Counter(found))}"
        if split != "train":
            share = found.count(usual) / len(found)
            line += f"; {names[usual]!r} for all of them, the majority in train, has accuracy {share:.3f}"
        lines.append(line)
    return "\n".join(lines)


def count_classes(names: tuple[str, ...], counts: Counter[int]) -> str:
    """The classes with their numbers of rows, the most frequent first, and then the classes without rows."""
    order = sorted(range(len(names)), key=lambda number: -counts[number])
    there = [f"{names[number]} {counts[number]:,}" for number in order if counts[number]]
    missing = [names[number] for number in order if not counts[number]]
    return join_words(there) + (f"; none of {join_words(missing)}" if missing else "")


def join_words(words: Iterable[str]) -> str:
    """Join words with commas. If there are many, only the first ones are named."""
    words = list(words)
    more = f" and {len(words) - MOST_NAMED:,} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more
