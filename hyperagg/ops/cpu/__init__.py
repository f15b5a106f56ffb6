"""Numba kernels for CPUs. Not part of the public interface."""
