"""Structured matrices: linear maps given by few parameters. Nothing here knows of Transformers or Lightning."""

from kronlit.structured.base import Dense, StructuredLinear
from kronlit.structured.kronecker import Kronecker
from kronlit.structured.low_rank import LowRank
from kronlit.structured.mixture import Mixture
from kronlit.structured.phm import PHM
from kronlit.structured.stacked import Stacked

__all__ = ["PHM", "Dense", "Kronecker", "LowRank", "Mixture", "Stacked", "StructuredLinear"]
