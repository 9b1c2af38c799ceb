"""Structured matrices: linear maps given by few parameters. Nothing here knows of Transformers or Lightning."""

from kronlit.structured.base import Dense, StructuredLinear
from kronlit.structured.circulant import Circulant, SkewCirculant
from kronlit.structured.kronecker import Kronecker
from kronlit.structured.ldr import LDR
from kronlit.structured.low_rank import LowRank
from kronlit.structured.mixture import Mixture
from kronlit.structured.phm import PHM
from kronlit.structured.stacked import Stacked
from kronlit.structured.toeplitz import SymmetricToeplitz, Toeplitz, ToeplitzProduct

__all__ = [
    "LDR",
    "PHM",
    "Circulant",
    "Dense",
    "Kronecker",
    "LowRank",
    "Mixture",
    "SkewCirculant",
    "Stacked",
    "StructuredLinear",
    "SymmetricToeplitz",
    "Toeplitz",
    "ToeplitzProduct",
]
