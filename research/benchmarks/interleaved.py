"""Interleaved timing: calls alternate, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["interleaved", "interleaved_items", "retained_memory", "torch_threads"]

_ROUNDS, _MAX_ROUNDS = 7, 31


def interleaved(
    calls: Mapping[str, Callable[[], object]], budget: float = 3.0, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Measure the median seconds of each call.

    Every round makes each call once, in a rotating order. After a warm-up there are at least
    `rounds` rounds, and up to 31 while `budget` seconds last.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    done, begun = 0, time.perf_counter()
    while done < rounds or (done < _MAX_ROUNDS and time.perf_counter() - begun < budget):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            if not done:
                calls[name]()
            started = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - started)
        done += 1
    return {name: float(np.median(each)) for name, each in times.items()}


def interleaved_items(
    calls: Mapping[str, Callable[[int], object]], number: int
) -> dict[str, float]:
    """Measure the median seconds of call(i) over i < number, with alternating calls at every i.

    This suits calls of microseconds whose input changes every time, as in a server.
    """
    names = list(calls)
    times = {name: np.empty(number) for name in names}
    for i in range(number):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            calls[name](i)
            times[name][i] = time.perf_counter() - started
    return {name: float(np.median(each)) for name, each in times.items()}


@contextmanager
def retained_memory() -> Iterator[bool]:
    """Let the allocator retain freed memory, as between the steps of a training.

    Otherwise glibc returns large blocks to the system, and the system clears the pages of every
    output again, which costs several copies. Yields whether the allocator supports it.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        yield False
        return
    try:
        yield bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1))
    finally:
        mallopt(mmap_max, 65536)
        mallopt(trim_threshold, 128 * 1024)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Run PyTorch with the given number of threads, and restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
