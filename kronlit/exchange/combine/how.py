"""The ways to combine adapters, by the names of PEFT's `combination_type`."""

from typing import Literal

How = Literal[
    "cat",
    "ties",
    "dare_ties",
    "dare_linear",
    "magnitude_prune",
    "ties_svd",
    "dare_ties_svd",
    "dare_linear_svd",
    "magnitude_prune_svd",
]
