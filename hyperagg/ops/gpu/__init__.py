"""Triton kernels of prefix sums, windows and associative sums, for tensors on a GPU. Not public.

The host never waits for the device: rows are split on the device, and the number of programs
follows from shapes, so surplus programs get empty chunks. No sum is atomic, so repeated calls give
the same bits. Sums are float32, or float64 for float64 inputs.

Triton is slow to import and optional, so only a tensor on a GPU imports this package.
"""

from hyperagg.ops.gpu.associative import associative, associative_backward
from hyperagg.ops.gpu.scan import scan, scan_backward
from hyperagg.ops.gpu.window import window, window_backward

__all__ = [
    "associative",
    "associative_backward",
    "scan",
    "scan_backward",
    "window",
    "window_backward",
]
