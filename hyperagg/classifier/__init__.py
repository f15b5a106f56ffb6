"""Texts to labels on CPUs, without PyTorch."""
