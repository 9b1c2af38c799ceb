"""Training rows of full length that nobody wrote, where only their size matters."""

import math
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.modules import CausalLM, FrozenPLM, ImageClassification, SequenceClassification, TextToText
from kronlit.modules.batch import Batch
from kronlit.modules.targets import IGNORED

JOBS = (CausalLM, SequenceClassification, TextToText, ImageClassification)
"""The jobs whose rows can be made up."""


def made_up_batch(module: FrozenPLM, rows: int, packed: bool = False) -> Batch:
    """A training batch of rows of `max_length` tokens, all of which are learned by a causal language model.

    Args:
        module: the module that reads it.
        rows: number of rows, or of packed sequences.
        packed: whether each is of two joined rows.

    Raises:
        UserError: if the job is none of `JOBS`.
    """
    if not isinstance(module, JOBS):
        known = ", ".join(job.__name__ for job in JOBS)
        raise UserError(
            f"`model`={type(module).__name__}: no rows can be made up for this job; `kronlit memory` knows {known}. A "
            "short fit tells its memory: `peak_memory_bytes` in its summary.json."
        )
    return module.collate([full_row(module, packed)] * rows)


def full_row(module: Any, packed: bool) -> dict[str, Any]:
    """One row as the module's `encode` would make it."""
    if isinstance(module, ImageClassification):
        return {"row": 0, "label": 0, "pixels": bytes(math.prod(module.reader.shape))}
    token = sorted(set(module.tokenizer.get_vocab().values()) - set(module.tokenizer.all_special_ids))[0]
    if isinstance(module, CausalLM):
        length = module.max_length
        row: dict[str, Any] = {"input_ids": [token] * length, "labels": [IGNORED, *[token] * (length - 1)]}
        if packed:
            return row | {"row": [0, 1], "position_ids": [*range(length // 2), *range(length - length // 2)]}
        return row | {"row": 0, "prompt_ids": [token], "answers": [""]}
    text = " ".join([module.tokenizer.decode([token])] * 2 * module.max_length)
    columns: dict[str, list[Any]] = {column: [text] for column in module.task.columns}
    columns |= {"answers": [[text]]} if module.task.free_text else {"label": [0]}
    made = {name: values[0] for name, values in module.encode(columns).items()}
    label = -1 if module.task.free_text else 0
    return made | {"row": 0, "label": label} | ({"answers": [text]} if module.task.free_text else {})
