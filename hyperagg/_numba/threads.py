"""Run compiled kernels on several threads, each on ranges of the outputs.

Every output is computed by one thread in one order, so the bits do not depend on the number of
threads. `run` uses a pool of threads. Numba's own threads are not used, since two Python threads
cannot enter its default threading layer at the same time.

Between operations of PyTorch, `run_on_team` takes the threads of PyTorch's OpenMP team: that team
keeps its cores busy for some milliseconds after each operation, waiting for the next, and other
threads would compete with it for them. A process in which the team cannot start all of its threads
is ended by OpenMP, which is why nothing but the operations of PyTorch uses it.

This module never imports PyTorch, so that the classifier neither needs it nor waits for it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Semaphore
from typing import Any

import numpy as np

from hyperagg._numba.cpus import default_threads

__all__ = ["even_borders", "limit_threads", "max_threads", "parts", "run", "run_on_team"]

# In multiply-adds; with less work per thread, starting one costs more than it saves.
_MIN_WORK_PER_THREAD = 200_000
_compiled: set[tuple[Any, ...]] = set()


_limit = threading.local()


@contextmanager
def limit_threads(number: int | None) -> Iterator[None]:
    """Set the number of threads for the calls that this thread makes in the block.

    None leaves it at the default.
    """
    before = getattr(_limit, "number", None)
    _limit.number = before if number is None else number
    try:
        yield
    finally:
        _limit.number = before


def max_threads() -> int:
    """Return the number of threads of `limit_threads`, or by default `cpus.default_threads()`."""
    return getattr(_limit, "number", None) or default_threads()


def parts(work: int) -> int:
    """Return the number of threads that are worthwhile for this number of multiply-adds."""
    worthwhile = work // _MIN_WORK_PER_THREAD
    return 1 if worthwhile <= 1 else min(max_threads(), worthwhile)


def even_borders(costs: np.ndarray, parts: int) -> np.ndarray:
    """Return the borders that divide items into ranges of about equal total cost.

    Args:
        costs: (n,) the cost of each item.
        parts: the number of ranges.

    Returns:
        (parts + 1,) int64 from 0 to n; range i has the items from borders[i] to borders[i + 1] - 1.
    """
    if parts == 1 or len(costs) == 0:
        return np.array([0, len(costs)])
    cumulative = np.cumsum(costs)
    targets = cumulative[-1] * np.arange(1, parts) / parts
    # An item belongs to the range that contains its middle.
    return np.concatenate([[0], np.searchsorted(cumulative - costs / 2, targets), [len(costs)]])


def run(kernel: Callable[..., object], borders: np.ndarray, *args: Any) -> None:
    """Call kernel(begin, end, *args) for every range between borders, on several threads.

    At most `max_threads()` threads run at a time, one of which is the calling thread. If no further
    thread can be started, the calling thread runs all ranges.

    Raises:
        Exception: whatever the kernel raises; all ranges have ended by then.
    """
    _run(_run_in_pool, kernel, borders, args)


def run_on_team(kernel: Callable[..., object], borders: np.ndarray, *args: Any) -> None:
    """Do what `run` does, on the threads of PyTorch's OpenMP team.

    It is `run` where that team does not exist, as in a forked process.
    """
    team = _team()
    if team is None:
        run(kernel, borders, *args)
        return

    def start(work: Callable[..., None], ranges: int) -> None:
        # With a number of threads other than PyTorch's, the team would be built anew.
        team(_Callback(work), None, _torch_num_threads()(), 0)

    _run(start, kernel, borders, args)


def _run(
    start: Callable[[Callable[..., None], int], None],
    kernel: Callable[..., object],
    borders: np.ndarray,
    args: tuple[Any, ...],
) -> None:
    ranges = [(int(a), int(b)) for a, b in zip(borders, borders[1:]) if a < b]
    if not ranges:
        return
    key = (kernel, *(a.dtype if isinstance(a, np.ndarray) else type(a) for a in args))
    if key not in _compiled:
        kernel(0, 0, *args)  # an empty range: compiles the kernel and computes nothing
        _compiled.add(key)
    if len(ranges) == 1:
        kernel(*ranges[0], *args)
        return
    errors: list[BaseException] = []
    ended = Semaphore(0)
    remaining = iter(ranges)  # shared: the thread that asks first gets the next range

    def work(_: object = None) -> None:
        for begin, end in remaining:
            try:
                kernel(begin, end, *args)
            except BaseException as error:  # the OpenMP team, which is C code, would lose it
                errors.append(error)
            finally:
                ended.release()

    start(work, len(ranges))
    for _ in ranges:
        ended.acquire()
    if errors:
        raise errors[0]


def _run_in_pool(work: Callable[..., None], ranges: int) -> None:
    try:
        for _ in range(min(ranges, max_threads()) - 1):
            _pool(os.getpid()).submit(work)
    except RuntimeError:  # no further thread can be started, or the interpreter is ending
        pass
    work()


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_forked = False


def _torch_num_threads() -> Any:
    # The attribute is missing while another thread imports PyTorch.
    return getattr(sys.modules.get("torch"), "get_num_threads", None)


def _team() -> Any:
    return _find_team() if _torch_num_threads() and not _forked else None


@lru_cache(maxsize=1)
def _find_team() -> Any:
    """The function of GNU OpenMP that runs a callback on the team, in the copy PyTorch loaded."""
    try:
        return getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    except (OSError, TypeError):
        return None


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@lru_cache(maxsize=1)
def _pool(process_id: int) -> ThreadPoolExecutor:
    # One pool per process: the threads of a parent do not exist in its forked children. A thread
    # starts when there is work and every other one is busy, so the maximum costs nothing.
    return ThreadPoolExecutor(max(32, os.cpu_count() or 1), thread_name_prefix="hyperagg")
