"""Times several calls in turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

__all__ = ["in_turns", "kept_memory"]

_ROUNDS, _MOST_ROUNDS = 7, 31


def in_turns(calls: Mapping[str, Callable[[], object]], budget: float = 3.0) -> dict[str, float]:
    """Median seconds of each call.

    Every round makes each call once, another one first each time. There are at least 7 rounds
    after a call to warm up, and up to 31 while `budget` seconds last.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    begun, rounds = time.perf_counter(), 0
    while rounds < _ROUNDS or (rounds < _MOST_ROUNDS and time.perf_counter() - begun < budget):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            if not rounds:
                calls[name]()
            started = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - started)
        rounds += 1
    return {name: float(np.median(each)) for name, each in times.items()}


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Lets the allocator keep what is freed, as memory is kept over the steps of a training.

    Otherwise glibc returns large blocks to the system, and every output is paid for with the
    system's clearing of its pages, which costs several copies. Yields whether that was to be had.
    """
    most_maps, trim = -4, -1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        yield False
        return
    try:
        yield bool(mallopt(most_maps, 0) and mallopt(trim, 2**31 - 1))
    finally:
        mallopt(most_maps, 65536)
        mallopt(trim, 128 * 1024)
