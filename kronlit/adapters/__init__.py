"""Where a structured matrix goes in a frozen model. Nothing here knows of papers or Lightning."""

from kronlit.adapters.inject import Insertion, inject, merge, placements
from kronlit.adapters.placement import Bias, Delta, Placement
from kronlit.adapters.report import trainable_report

__all__ = ["Bias", "Delta", "Insertion", "Placement", "inject", "merge", "placements", "trainable_report"]
