"""Parameter-efficient fine-tuning of Transformers with structured adapters."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kronlit.adapters import collapse, dequantise, merge, trainable_report
    from kronlit.exchange.load import load
    from kronlit.exchange.load_many import load_many
    from kronlit.exchange.save import save
    from kronlit.methods import (
        OFT,
        PA,
        SURM,
        AdaMix,
        AdaMixKronA,
        AdaMixLoRA,
        AdapterDrop,
        BitFit,
        Combined,
        Compacter,
        CompacterPP,
        DoRA,
        FullFineTuning,
        HeadOnly,
        HiRA,
        Houlsby,
        IntrinsicSAID,
        KronA,
        KronAB,
        KronABRes,
        LiST,
        LoRA,
        LowRankAdapter,
        Method,
        Pfeiffer,
        PHMAdapter,
        PromptTuning,
        Structured,
        SURMAdapter,
        inject,
    )

__version__ = "0.1.0"
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
    "collapse",
    "dequantise",
    "inject",
    "load",
    "load_many",
    "merge",
    "save",
    "trainable_report",
]


def __getattr__(name: str) -> object:
    # Late, so that `import kronlit` (and with it `kronlit --help`) does not wait for torch.
    if name in __all__:
        rooms = dict.fromkeys(("collapse", "dequantise", "merge", "trainable_report"), "adapters") | {
            "load": "exchange.load",
            "load_many": "exchange.load_many",
            "save": "exchange.save",
        }
        room = f"kronlit.{rooms.get(name, 'methods')}"
        return getattr(importlib.import_module(room), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
