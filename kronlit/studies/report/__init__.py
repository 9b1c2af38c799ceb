"""A study's results as tables, significance tests and plots."""
