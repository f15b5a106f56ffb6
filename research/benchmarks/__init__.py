"""Speed, measured: both sides in turns, against the limit and the best rival."""

from research.benchmarks.ops import FULL_SIZE, QUICK, Sizes, bench_ops
from research.benchmarks.ops_page import write_page
from research.benchmarks.text import FULL_TEXT, QUICK_TEXT, Effort, bench_text
from research.benchmarks.text_page import text_table, write_text_page

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
