"""Runs compiled kernels on several threads, each on a range of outputs of its own.

An output is always summed by one thread in one order, so the bits do not depend on how many
threads there are. The threads are PyTorch's own OpenMP team: it keeps its cores busy for some
milliseconds after each op, waiting for the next, and other threads would have to fight for them.
Where that team is not to be had (PyTorch not imported, another OpenMP, a process that was forked),
a pool takes its place. Numba's default threads may not be entered by two Python threads at once.

PyTorch is asked only if it is there already: what predicts without it shall not wait for it.
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
from typing import Any

import numpy as np

__all__ = ["even_borders", "parts", "run"]

# Below this many multiply-adds a second thread costs more than it saves.
_WORK_WORTH_A_THREAD = 200_000
_SECONDS_BEFORE_A_WORD = 1.0
_compiled: set[tuple[Any, ...]] = set()


def _most() -> int:
    """How many threads there may be: as many as PyTorch uses, or about as many as it would use."""
    if ask := _asked_of_torch():
        return ask()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def parts(work: int) -> int:
    """How many threads are worth while for so many multiply-adds."""
    worth = work // _WORK_WORTH_A_THREAD
    return 1 if worth <= 1 else min(_most(), worth)


def even_borders(costs: np.ndarray, parts: int) -> np.ndarray:
    """Borders that cut the items into `parts` ranges of about equal total cost."""
    if parts == 1 or len(costs) == 0:
        return np.array([0, len(costs)])
    reached = np.cumsum(costs)
    targets = reached[-1] * np.arange(1, parts) / parts
    # An item goes to the range that its middle falls into.
    return np.concatenate([[0], np.searchsorted(reached - costs / 2, targets), [len(costs)]])


def run(kernel: Callable[..., object], borders: np.ndarray, *args: Any) -> None:
    """kernel(begin, end, *args) for every range between borders, on as many threads as are free."""
    ranges = [(int(a), int(b)) for a, b in zip(borders, borders[1:]) if a < b]
    if not ranges:
        return
    key = (kernel, *(a.dtype if isinstance(a, np.ndarray) else type(a) for a in args))
    if key not in _compiled:
        with _word_when_slow():
            kernel(0, 0, *args)  # an empty range: compiles, computes nothing
        _compiled.add(key)
    if len(ranges) == 1:
        kernel(*ranges[0], *args)
        return
    errors: list[BaseException] = []
    todo = iter(ranges)  # shared: each range goes to the thread that asks first

    def work(_: object = None) -> None:
        try:
            for first, last in todo:
                kernel(first, last, *args)
        except BaseException as error:  # C code, which calls this, would lose it
            errors.append(error)

    if (team := _team()) is not None:
        # Another number of threads than PyTorch's would have its team built anew.
        team(_Callback(work), None, _most(), 0)
    else:
        waiting = [_pool(os.getpid()).submit(work) for _ in ranges[1:]]
        work()
        for future in waiting:
            future.result()
    if errors:
        raise errors[0]


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_forked = False


def _asked_of_torch() -> Callable[[], int] | None:
    # PyTorch may be half imported, by another thread.
    return getattr(sys.modules.get("torch"), "get_num_threads", None)


def _team() -> Any:
    return _find_team() if _asked_of_torch() and not _forked else None


@lru_cache(maxsize=1)
def _find_team() -> Any:
    """GNU OpenMP's way to run a function on all threads of the team, in the copy PyTorch uses."""
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
    # Keyed by the process: the threads of a parent do not survive a fork.
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hyperagg")


@contextmanager
def _word_when_slow() -> Iterator[None]:
    text = "hyperagg: compiling a kernel for this machine; it is kept for the next time"
    timer = threading.Timer(_SECONDS_BEFORE_A_WORD, print, (text,), {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
