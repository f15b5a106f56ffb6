"""Columns of a table to tokens."""
