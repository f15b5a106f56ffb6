"""Speed, measured: both sides in turns, against the limit and the best rival."""

from hyperagg.benchmarks.ops import FULL_SIZE, QUICK, Sizes, bench_ops
from hyperagg.benchmarks.page import write_page
from hyperagg.benchmarks.text import FULL_TEXT, QUICK_TEXT, Effort, bench_text
from hyperagg.benchmarks.text_page import text_table, write_text_page

__all__ = [
    "FULL_SIZE",
    "FULL_TEXT",
    "QUICK",
    "QUICK_TEXT",
    "Effort",
    "Sizes",
    "bench_ops",
    "bench_text",
    "text_table",
    "write_page",
    "write_text_page",
]
