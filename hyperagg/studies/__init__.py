"""Comparisons and the source's tables, each reproducible by name."""
