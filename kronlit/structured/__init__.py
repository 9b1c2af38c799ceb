"""Structured matrices: linear maps given by few parameters. Nothing here knows of Transformers or Lightning."""

from kronlit.structured.base import Dense, StructuredLinear
from kronlit.structured.kronecker import Kronecker
from kronlit.structured.low_rank import LowRank

__all__ = ["Dense", "Kronecker", "LowRank", "StructuredLinear"]
