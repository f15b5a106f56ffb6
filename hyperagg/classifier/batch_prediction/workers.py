"""Apply a function to a stream of items, here or in processes, with the results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from queue import Full, Queue
from typing import Any, TypeVar

__all__ = ["ordered_map"]

Item = TypeVar("Item")

_SECONDS_BETWEEN_CHECKS = 0.2
_function: Callable[[Any], bytes]


def ordered_map(
    function: Callable[[Item], bytes], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, bytes]]:
    """Yield each item with the result of the function, in the order of the items.

    Args:
        function: can be pickled if there are several workers; each process gets it once.
        items: read by a thread if there are several workers, at most two per worker ahead.
        workers: the number of processes; 1: this process.

    Raises:
        ValueError: a worker was killed, for example because memory ran out.
    """
    if workers == 1:
        for item in items:
            yield item, function(item)
        return
    # A forked process would inherit threads that do not exist in it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _initialize, (function,)) as pool:
        queue: Queue[Any] = Queue(2 * workers)
        stop = threading.Event()
        reader = threading.Thread(target=_feed, args=(pool, items, queue, stop), daemon=True)
        reader.start()
        try:
            while True:
                item, future = queue.get()
                if future is None:
                    if item is not None:
                        raise item
                    return
                yield item, future.result()
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process was killed, perhaps because memory ran out; try fewer --workers"
            ) from error
        finally:
            stop.set()
            # Without waiting, the exit of this process may find the pipes of the pool closed.
            pool.shutdown(wait=True, cancel_futures=True)


def _feed(
    pool: ProcessPoolExecutor,
    items: Iterable[Any],
    queue: Queue[tuple[Any, Future[bytes] | None]],
    stop: threading.Event,
) -> None:
    """Submit the items; the end is (None, None), and an error (error, None)."""
    # `submit` starts the processes, and they inherit the signals that its thread blocks: Ctrl-C is
    # for the parent, which ends the pool, from their first moment.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    end: BaseException | None = None
    try:
        for item in items:
            _put(queue, (item, pool.submit(_apply, item)), stop)
            if stop.is_set():
                return
    except BaseException as error:
        end = error
    _put(queue, (end, None), stop)


def _put(queue: Queue[Any], entry: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            queue.put(entry, timeout=_SECONDS_BETWEEN_CHECKS)
            return
        except Full:
            continue


def _initialize(function: Callable[[Any], bytes]) -> None:
    global _function
    _function = function
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where a process does not inherit what is blocked
    for name in ("SIGTERM", "SIGHUP"):  # a forked process inherits the handlers of its parent
        number = getattr(signal, name, None)
        if number is not None and callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    """End this process when its parent has been killed, since nobody else would."""
    wait([sentinel])
    os._exit(1)


def _apply(item: Any) -> bytes:
    return _function(item)
