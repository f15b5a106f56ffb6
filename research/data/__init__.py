"""Data sets that only the studies need."""
