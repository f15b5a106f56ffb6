"""Public data sets, loaded by name."""
