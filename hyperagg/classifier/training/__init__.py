"""Trains the parameters of a text classifier."""
