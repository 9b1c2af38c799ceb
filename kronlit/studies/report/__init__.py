"""A study's results as tables, tests and pictures."""
