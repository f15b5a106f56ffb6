"""Compiled kernels that train and score text classifiers."""
