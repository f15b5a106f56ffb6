"""Search for good arguments of a classifier."""
