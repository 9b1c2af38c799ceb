"""Several rows in one sequence of a causal language model, none of which sees another.

Without a mask, Transformers takes a position that does not follow the last one for the start of a row, and makes the
mask of that: one block a row for `sdpa`, lengths for the variable-length kernels of `flash_attention_2`.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.modules.batch import Batch
from kronlit.modules.targets import IGNORED

LEAK = 1e-4
"""How much a row may change by the row before it, as a share of that one's change: less than the weakest attention."""


def packed_batch(rows: list[dict[str, Any]], fill: int) -> Batch:
    """Sequences of joined rows as one batch; what fills a sequence up is a row of its own, without targets.

    Its `row`, `(rows,)`, has the numbers of all rows; `input_ids`, `position_ids` and `target_ids` are
    `(sequences, tokens)`.
    """
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filling: Iterable[int]) -> Tensor:
        return torch.tensor([[*row[name], *list(filling)[: longest - len(row[name])]] for row in rows])

    return {
        "row": torch.tensor(list(chain.from_iterable(row["row"] for row in rows))),
        "input_ids": padded("input_ids", [fill] * longest),
        "position_ids": padded("position_ids", range(longest)),
        "target_ids": padded("labels", [IGNORED] * longest),
    }


def packed_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The logits of columns of a packed batch that have targets, `(n, columns, vocabulary)`, and these targets.

    `n` is the number of sequences; for kernels of variable length they are one long sequence, as Transformers asks for.
    """
    names = ("input_ids", "position_ids", "target_ids")
    tokens, positions, targets = (batch[name] for name in names)
    if "flash" in str(model.config._attn_implementation):
        tokens, positions, targets = (each.flatten()[None] for each in (tokens, positions, targets))
    learned = (targets >= 0).any(0).nonzero()[:, 0]  # never the first: a row's first token is no target
    output = model(input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=learned - 1)
    return output.logits.float(), targets[:, learned]


@torch.no_grad()
def check_packing(model: PreTrainedModel, plm: str) -> None:
    """Raise `UserError` if a row changes with the row before it, as in a model whose mask knows no positions."""
    kind, own = model.config._attn_implementation, model.training
    if "flash" in str(kind):  # which runs on a GPU alone, and the model may not be there yet
        model.set_attn_implementation("sdpa")
    size = model.get_input_embeddings().weight.shape[0]
    first, other, second = (torch.arange(4, dtype=torch.long) * step % size for step in (1, 3, 7))
    positions = torch.arange(4).repeat(2)[None]
    try:
        model.eval()
        one, another = (
            model(input_ids=torch.cat((row, second))[None], position_ids=positions, use_cache=False).logits[0].float()
            for row in (first, other)
        )
        change = (one - another).abs()
        leaks = bool(change[4:].max() > LEAK * change[:4].max())
    except Exception:  # any model's own code runs here, and not all take positions
        leaks = True
    finally:
        model.train(own)
        model.set_attn_implementation(kind)
    if leaks:
        raise UserError(
            f"`data.packing`=True: in {type(model).__name__}, which `model.plm`={plm!r} is, Transformers does not keep "
            "the rows of a sequence apart; leave it out."
        )
