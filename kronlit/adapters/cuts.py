"""How one module that computes query, key and value is cut into them."""

from collections.abc import Callable
from typing import Any

from kronlit.structured.rows import Interleaved, Rows

Layout = tuple[int, dict[str, int]]
"""The number of equal groups of rows, and what each holds, in this order: a site, and how many equal parts it has."""

THIRDS = {"query": 1, "key": 1, "value": 1}


def contiguous(config: Any) -> Layout:
    """All of query, then all of key, then all of value, equally wide."""
    return 1, THIRDS


def by_head(config: Any) -> Layout:
    """Head after head, each with its query, key and value."""
    return config.num_attention_heads, THIRDS


def grouped_queries(config: Any) -> Layout:
    """All of query, then the fewer heads of key, then those of value."""
    heads, fewer = config.num_attention_heads, config.num_key_value_heads
    return 1, {"query": heads, "key": fewer, "value": fewer}


def one_key(config: Any) -> Layout:
    """All of query, then one head of key and one of value (multi-query attention)."""
    return 1, {"query": config.num_attention_heads, "key": 1, "value": 1}


def falcon(config: Any) -> Layout:
    """Falcon's three: that of 40B, in groups of some queries with one key and value; that of 7B; and that of RW."""
    if config.new_decoder_architecture:
        groups = config.num_kv_heads
        return groups, {"query": config.num_attention_heads // groups, "key": 1, "value": 1}
    return one_key(config) if config.multi_query else by_head(config)


LAYOUTS: dict[str, Callable[[Any], Layout]] = {
    "bloom": by_head,
    "codegen": lambda config: (4, {"query": 1, "value": 1, "key": 1}),  # the four accelerators that it was trained on
    "deberta": by_head,
    "falcon": falcon,
    "gpt2": contiguous,
    "gpt_bigcode": lambda config: one_key(config) if config.multi_query else by_head(config),
    "gpt_neox": by_head,
    "gpt_neox_japanese": by_head,
    "imagegpt": contiguous,
    "modernbert": contiguous,
    "mpt": contiguous,
    "openai-gpt": contiguous,
    "persimmon": by_head,
    "phi3": grouped_queries,
}
"""The layouts, by architecture. One that is not here is not guessed: a wrong one would train something else."""


def rows_of(site: str, layout: Layout, out_features: int) -> Rows:
    """The rows that belong to `site` in a module of this layout.

    Raises:
        ValueError: if the layout does not divide the module's width.
    """
    groups, units = layout
    width, rest = divmod(out_features, groups * sum(units.values()))
    if rest:
        raise ValueError(f"{out_features} outputs are not {groups} x ({' + '.join(map(str, units.values()))}) parts.")
    before = sum(n for name, n in units.items() if list(units).index(name) < list(units).index(site))
    part = slice(before * width, (before + units[site]) * width)
    return part if groups == 1 else Interleaved(groups, part)
