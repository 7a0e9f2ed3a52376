"""Comparing sentences: n-best lists, their tuning, and minimal pairs. They take a scorer, not a model."""
