"""Where a structured matrix goes in a frozen model. Nothing here knows of papers or Lightning."""

from kronlit.adapters.bottleneck import Bottleneck
from kronlit.adapters.hadamard import Hadamard
from kronlit.adapters.inject import Insertion, collapse, inject, merge, placements, tie
from kronlit.adapters.placement import Bias, ParallelAdapter, Placement, SequentialAdapter
from kronlit.adapters.product import Product
from kronlit.adapters.quantised import QuantisedLinear, dequantise
from kronlit.adapters.report import parameter_counts, shape_table, trainable_report
from kronlit.adapters.single_layer import SingleLayer
from kronlit.adapters.weight_change import Delta, WeightChange
from kronlit.adapters.weight_decomposed import WeightDecomposed

__all__ = [
    "Bias",
    "Bottleneck",
    "Delta",
    "Hadamard",
    "Insertion",
    "ParallelAdapter",
    "Placement",
    "Product",
    "QuantisedLinear",
    "SequentialAdapter",
    "SingleLayer",
    "WeightChange",
    "WeightDecomposed",
    "collapse",
    "dequantise",
    "inject",
    "merge",
    "parameter_counts",
    "placements",
    "shape_table",
    "tie",
    "trainable_report",
]
