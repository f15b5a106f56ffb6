"""Speed, measured: both sides in turns, against the limit and the best rival."""

from hyperagg.benchmarks.ops import FULL_SIZE, QUICK, Sizes, bench_ops
from hyperagg.benchmarks.page import write_page

__all__ = ["FULL_SIZE", "QUICK", "Sizes", "bench_ops", "write_page"]
