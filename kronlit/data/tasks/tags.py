"""Tags of tokens, and which of them say where spans begin and end (IOB1, IOB2, IOBES)."""

OUTSIDE = "O"
"""The tag of a token that is in no span."""
PLACES = "BIES"
"""Where a token stands in its span: at the begin, inside, at the end, or as its single token."""


def are_span_tags(labels: tuple[str, ...]) -> bool:
    """Whether the labels are O and others such as `B-PER`, and no classes of tokens, such as parts of speech."""
    return OUTSIDE in labels and all(
        tag == OUTSIDE or tag in PLACES or (tag[0] in PLACES and tag[1:2] == "-" and len(tag) > 2) for tag in labels
    )


def order_tags(labels: set[str]) -> tuple[str, ...]:
    """The tags in their usual order: O, and then those of each type together, as numbers if all are such."""
    if all(tag.isdecimal() for tag in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels, key=lambda tag: (tag != OUTSIDE, tag.partition("-")[2], tag)))
