"""Models that only the studies need."""
