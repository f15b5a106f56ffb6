"""Models that only studies need."""
