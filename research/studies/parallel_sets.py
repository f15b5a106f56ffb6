"""Measures data sets side by side, each in a process of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

__all__ = ["measure_sets"]

logger = logging.getLogger(__name__)


def measure_sets(
    measure: Callable[[str], Any],
    names: Sequence[str],
    jobs: int,
    write: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Return what `measure` returns for each data set, in the order of `names`.

    Every process computes on one thread. `write` is called after each data set with all results so
    far, in the same order. An error is logged at once, and raised after the other data sets, which
    may take hours, have been measured.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, Any] = {}
    first_error = None
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = {pool.submit(measure, name): name for name in names}
        for future in as_completed(futures):
            name = futures[future]
            if error := future.exception():
                logger.error(f"{name}: {type(error).__name__}: {error}")
                first_error = first_error or error
                continue
            found[name] = future.result()
            write({each: found[each] for each in names if each in found})
    if first_error is not None:
        raise first_error
    return {name: found[name] for name in names}
