"""Adapters in PEFT's own format."""
