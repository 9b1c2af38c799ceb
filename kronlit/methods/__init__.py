"""The papers: each method is a structured matrix, a placement and sites, and what else is trained."""

from kronlit.methods.base import Method, inject
from kronlit.methods.baselines import BitFit, FullFineTuning, HeadOnly
from kronlit.methods.krona import KronA
from kronlit.methods.lora import LoRA

__all__ = ["BitFit", "FullFineTuning", "HeadOnly", "KronA", "LoRA", "Method", "inject"]
