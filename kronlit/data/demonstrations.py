"""Demonstrations: training rows with their answers in the same prompt as the row to answer.

Gao et al., LM-BFF, 2021, arXiv:2012.15723, section 6. The draw for a row depends only on a seed, a number (the epoch in
training, the index of the set in evaluation) and the row. So resumed runs and runs on several processes draw the same.
"""

from typing import Any

import datasets
import numpy as np
from torch.utils.data import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.batches import Key


class DemonstrationSet(Dataset[dict[str, Any]]):
    """Encoded rows with sets of `demonstrations`. A set has the tokens of one training row for each label.

    Args:
        queries: the encoded rows.
        pool: the encoded training rows, with `demonstration_ids` and `word`, the number of the label's word. To keep
            only the most similar rows, both `pool` and `queries` also have an `embedding` of length 1.
        labels: names of the labels, in the order of `word` and of the demonstrations.
        own: whether `queries` are the training rows themselves; a row must not demonstrate itself.
        sets: how many sets a row gets in evaluation, where the key is an integer; in training it is one.
        seed: seed of the draws in evaluation.
        rate: share of each label's rows to keep: the most similar ones.

    Raises:
        ValueError: if a label has too few training rows.
    """

    def __init__(
        self,
        queries: datasets.Dataset,
        pool: datasets.Dataset,
        labels: tuple[str, ...],
        own: bool = False,
        sets: int = 1,
        seed: int = 0,
        rate: float = 1.0,
    ) -> None:
        self.queries = queries
        self.own = own
        self.sets = sets
        self.seed = seed
        self.rate = rate
        self.tokens: list[list[int]] = list(pool["demonstration_ids"])
        words = np.array(pool["word"])
        self.by_label = [np.flatnonzero(words == number) for number in range(len(labels))]
        self.embeddings = np.array(pool["embedding"]) if "embedding" in pool.column_names else None
        for label, rows in zip(labels, self.by_label, strict=True):
            if len(rows) < 1 + own:
                raise UserError(
                    f"`model.demonstrations` needs at least {1 + own} training rows of each label"
                    f"{', for a row does not demonstrate itself' if own else ''}; {label} has {len(rows)}."
                )

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        if isinstance(key, tuple):
            row, draws = key[2], [key[:2]]
        else:
            row, draws = key, [(self.seed, number) for number in range(self.sets)]
        query: dict[str, Any] = self.queries[row]
        sets = [[self.tokens[i] for i in self.draw(row, query, seed, number)] for seed, number in draws]
        return query | {"demonstrations": sets}

    def draw(self, row: int, query: dict[str, Any], seed: int, number: int) -> list[int]:
        """The numbers of the training rows that demonstrate for `row`, one for each label."""
        generator = np.random.default_rng((seed % 2**32, number, row))
        return [int(generator.choice(self.candidates(rows, row, query))) for rows in self.by_label]

    def candidates(self, rows: np.ndarray, row: int, query: dict[str, Any]) -> np.ndarray:
        """The rows among a label's training rows that may demonstrate for `row`."""
        rows = rows[rows != row] if self.own else rows
        if self.embeddings is None:
            return rows
        # As LM-BFF's code counts: a share of the rows of all labels, divided by the number of labels.
        limit = int((len(self.tokens) - self.own) // len(self.by_label) * self.rate)
        similarity = self.embeddings[rows] @ np.array(query["embedding"])
        return rows[np.argsort(-similarity, kind="stable")[: max(1, limit)]]
