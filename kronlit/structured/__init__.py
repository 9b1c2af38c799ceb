"""Structured matrices: linear maps given by few parameters. Nothing here knows of Transformers or Lightning."""

from kronlit.structured.base import Dense, StructuredLinear
from kronlit.structured.block_circulant import BlockCirculant
from kronlit.structured.block_orthogonal import BlockOrthogonal
from kronlit.structured.circulant import Circulant, SkewCirculant
from kronlit.structured.gated_kroneckers import GatedKroneckers
from kronlit.structured.khatri_rao import KhatriRao
from kronlit.structured.kronecker import Kronecker
from kronlit.structured.kronecker_sum import KroneckerSum
from kronlit.structured.ldr import LDR
from kronlit.structured.low_rank import LowRank
from kronlit.structured.low_rank_hadamard import LowRankHadamard
from kronlit.structured.mixture import Mixture
from kronlit.structured.monarch import Monarch
from kronlit.structured.phm import PHM
from kronlit.structured.stacked import Stacked
from kronlit.structured.tensor_circuit import TensorCircuit
from kronlit.structured.toeplitz import SymmetricToeplitz, Toeplitz, ToeplitzProduct
from kronlit.structured.weighted_sum import WeightedSum

__all__ = [
    "LDR",
    "PHM",
    "BlockCirculant",
    "BlockOrthogonal",
    "Circulant",
    "Dense",
    "GatedKroneckers",
    "KhatriRao",
    "Kronecker",
    "KroneckerSum",
    "LowRank",
    "LowRankHadamard",
    "Mixture",
    "Monarch",
    "SkewCirculant",
    "Stacked",
    "StructuredLinear",
    "SymmetricToeplitz",
    "TensorCircuit",
    "Toeplitz",
    "ToeplitzProduct",
    "WeightedSum",
]
