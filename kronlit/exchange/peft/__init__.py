"""Reads and writes adapters in PEFT's own format."""
