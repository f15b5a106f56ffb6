"""Measures data sets side by side, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

__all__ = ["measure_sets"]


def measure_sets(
    measure: Callable[[str], Any],
    names: Sequence[str],
    jobs: int,
    write: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Return what `measure` returns for each data set, in the order of `names`.

    The first error of a process is raised. Every process computes on one thread. `write` is called
    after each data set with all results so far, in the same order.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = {pool.submit(measure, name): name for name in names}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            write({name: found[name] for name in names if name in found})
    return {name: found[name] for name in names}
