"""How many rows each class has, and what it scores to give all rows the most frequent one."""

from collections import Counter
from collections.abc import Iterable

MOST_NAMED = 12
"""Classes that a line counts; of more, it counts the most frequent."""


def class_counts(names: tuple[str, ...], labels: dict[str, list[int]]) -> str:
    """A line on each split.

    Args:
        names: of the classes.
        labels: the label of each row of `train` and of the other splits, by the split's name.
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
    """The classes with their rows, the most frequent first, then those without."""
    order = sorted(range(len(names)), key=lambda number: -counts[number])
    there = [f"{names[number]} {counts[number]:,}" for number in order if counts[number]]
    missing = [names[number] for number in order if not counts[number]]
    return join_words(there) + (f"; none of {join_words(missing)}" if missing else "")


def join_words(words: Iterable[str]) -> str:
    """Words with commas between, the first of them where they are many."""
    words = list(words)
    more = f" and {len(words) - MOST_NAMED:,} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more
