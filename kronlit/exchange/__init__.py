"""Exports what a run has learned: as plain Transformers, for PEFT, and as a small folder of kronlit's own."""
