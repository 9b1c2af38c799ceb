"""Parsers, YAML files, and mistakes told in one line. Nothing here imports torch."""
