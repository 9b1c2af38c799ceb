"""Where a structured matrix goes in a frozen model. Nothing here knows of papers or Lightning."""

from kronlit.adapters.bottleneck import Bottleneck
from kronlit.adapters.inject import Insertion, collapse, inject, merge, placements, tie
from kronlit.adapters.placement import Bias, Delta, ParallelAdapter, Placement, SequentialAdapter
from kronlit.adapters.report import parameter_counts, shape_table, trainable_report
from kronlit.adapters.single_layer import SingleLayer

__all__ = [
    "Bias",
    "Bottleneck",
    "Delta",
    "Insertion",
    "ParallelAdapter",
    "Placement",
    "SequentialAdapter",
    "SingleLayer",
    "collapse",
    "inject",
    "merge",
    "parameter_counts",
    "placements",
    "shape_table",
    "tie",
    "trainable_report",
]
