"""The papers' methods: each is a structured matrix, a placement, sites, and what else is trained."""

from kronlit.methods.adamix import AdaMix, AdaMixKronA, AdaMixLoRA
from kronlit.methods.base import Method, inject
from kronlit.methods.baselines import BitFit, FullFineTuning, HeadOnly
from kronlit.methods.combined import Combined
from kronlit.methods.compacter import Compacter, CompacterPP, LowRankAdapter, PHMAdapter
from kronlit.methods.dora import DoRA
from kronlit.methods.hira import HiRA
from kronlit.methods.houlsby import PA, AdapterDrop, Houlsby, Pfeiffer
from kronlit.methods.intrinsic_said import IntrinsicSAID
from kronlit.methods.krona import KronA, KronAB, KronABRes
from kronlit.methods.list_adapters import LiST
from kronlit.methods.lora import LoRA
from kronlit.methods.oft import OFT
from kronlit.methods.prompt_tuning import PromptTuning
from kronlit.methods.structured import Structured
from kronlit.methods.surm import SURM, SURMAdapter

__all__ = [
    "OFT",
    "PA",
    "SURM",
    "AdaMix",
    "AdaMixKronA",
    "AdaMixLoRA",
    "AdapterDrop",
    "BitFit",
    "Combined",
    "Compacter",
    "CompacterPP",
    "DoRA",
    "FullFineTuning",
    "HeadOnly",
    "HiRA",
    "Houlsby",
    "IntrinsicSAID",
    "KronA",
    "KronAB",
    "KronABRes",
    "LiST",
    "LoRA",
    "LowRankAdapter",
    "Method",
    "PHMAdapter",
    "Pfeiffer",
    "PromptTuning",
    "SURMAdapter",
    "Structured",
    "inject",
]
