"""Tasks of texts from data, as GPT-2 writes them in LoRA's and AdaMix's papers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kronlit.data.tasks.hub import Hub
from kronlit.data.tasks.task import Task
from kronlit.data.triples import Pair, parse_dart, parse_webnlg


@dataclass(frozen=True)
class GenerationTask:
    """A task of texts from data.

    Args:
        task: what a model needs to know of it.
        hub: where the hub has it.
        hub_columns: those of the data and of the text.
        released: reads the data set's own JSON.
    """

    task: Task
    hub: Hub | None = None
    hub_columns: tuple[str, str] = ("", "")
    released: Callable[[Any], Iterator[Pair]] | None = None


TASKS = {
    known.task.name: known
    for known in (
        GenerationTask(  # Novikova et al., 2017, arXiv:1706.09254
            Task("e2e", ("context",), (), ("bleu", "nist", "rouge_l", "cider"), "{context}", free_text=True),
            # The hub's own conversion: the data set itself is a script.
            hub=Hub("tuetschek/e2e_nlg", revision="refs/convert/parquet"),
            hub_columns=("meaning_representation", "human_reference"),
        ),
        GenerationTask(  # Gardent et al., 2017
            Task("webnlg", ("context",), (), ("bleu", "ter"), "{context}", free_text=True, word_split=True),
            released=parse_webnlg,
        ),
        GenerationTask(  # Nan et al., 2021, arXiv:2007.02871
            Task("dart", ("context",), (), ("bleu", "ter"), "{context}", free_text=True, word_split=True),
            released=parse_dart,
        ),
    )
}
