"""Times several calls in turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["interleaved", "item_by_item", "kept_memory", "torch_threads"]

_ROUNDS, _MAX_ROUNDS = 7, 31


def interleaved(
    calls: Mapping[str, Callable[[], object]], budget: float = 3.0, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Median seconds of each call.

    Every round makes each call once, another one first each time. There are at least `rounds`
    after a call to warm up, and up to 31 while `budget` seconds last.
    """
    least, rounds = rounds, 0
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    begun = time.perf_counter()
    while rounds < least or (rounds < _MAX_ROUNDS and time.perf_counter() - begun < budget):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            if not rounds:
                calls[name]()
            started = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - started)
        rounds += 1
    return {name: float(np.median(each)) for name, each in times.items()}


def item_by_item(calls: Mapping[str, Callable[[int], object]], number: int) -> dict[str, float]:
    """Median seconds of call(i) over i < number, the calls in turns at every i.

    For calls of microseconds that are to meet another input each time, as a server does.
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


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """PyTorch with so many threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
