"""Triton kernels of the running sum and of windows, for tensors on a GPU.

The host never waits: how rows are cut is worked out on the device, and the number of programs
follows from shapes; those that are too many find stretches of no tokens. No sum is atomic, so
results are the same bits every time. Sums are kept in float32, of float64 in float64.

Import this only where a tensor on a GPU asks for it: Triton is slow to import and optional.
"""

from hyperagg.ops.gpu.scan import scan, scan_backward
from hyperagg.ops.gpu.window import window, window_backward

__all__ = ["scan", "scan_backward", "window", "window_backward"]
