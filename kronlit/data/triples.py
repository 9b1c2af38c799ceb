"""Texts and the triples they say, as WebNLG and DART are released, read as LoRA's code does."""

from collections.abc import Iterator
from typing import Any

Pair = tuple[str, str]
"""What is to be said, and a text that says it."""


def parse_webnlg(content: Any) -> Iterator[Pair]:
    """The pairs of WebNLG's JSON; texts that are not marked good are left out, as in LoRA's code."""
    for number, numbered in enumerate(content["entries"], 1):
        entry = numbered[str(number)]
        triples = [(triple["subject"], triple["property"], triple["object"]) for triple in entry["modifiedtripleset"]]
        yield from (
            (join_triples(triples), text["lex"]) for text in entry["lexicalisations"] if text["comment"] == "good"
        )


def parse_dart(content: Any) -> Iterator[Pair]:
    """The pairs of DART's JSON, relations in lower case, as in LoRA's code."""
    for entry in content:
        triples = [(triple[0], triple[1].lower(), triple[2]) for triple in entry["tripleset"]]
        yield from ((join_triples(triples), text["text"]) for text in entry["annotations"])


def join_triples(triples: list[tuple[str, str, str]]) -> str:
    """Triples as one context."""
    return " | ".join(" : ".join(triple) for triple in triples)
