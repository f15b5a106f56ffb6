"""Tasks that the threads of a compiled kernel share, and the wait for their end.

A thread claims the next task when it has time for one. A thread that starts late, or never, leaves
its tasks to the others, so they wait for tasks that somebody is computing, not for threads.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from hyperagg._numba.cache import njit

__all__ = ["claim", "exact_sleeps", "finish", "new_counters", "restore_sleeps", "wait"]

_STRIDE = 16  # a pair of cache lines, in int64, since processors prefetch cache lines in pairs
_DONE = _STRIDE // 2
# A few microseconds, the time in which most waits end. Then the core is left to other work.
_SPINS_BEFORE_SLEEP = 1000
_SLEEP = 5  # microseconds
_SET_TIMER_SLACK, _GET_TIMER_SLACK = 29, 30  # of prctl
_ONE = np.int64(1)


def new_counters(phases: int) -> np.ndarray:
    """Return the counters of this number of phases, each of which has tasks of its own."""
    return np.zeros(phases * _STRIDE, dtype=np.int64)


@njit(nogil=True, cache=True, inline="always")
def claim(counters, phase):
    """Return the number of the next task of a phase; the tasks are those below the total."""
    return _fetch_add(counters, np.int64(phase) * _STRIDE, _ONE)


@njit(nogil=True, cache=True, inline="always")
def finish(counters, phase):
    """Report that a task of a phase is done."""
    _fetch_add(counters, np.int64(phase) * _STRIDE + _DONE, _ONE)


@njit(nogil=True, cache=True, inline="always")
def wait(counters, phase, tasks):
    """Return when all tasks of a phase are done, `tasks` in number."""
    spins = 0
    while _load(counters, np.int64(phase) * _STRIDE + _DONE) < tasks:
        spins += 1
        if spins > _SPINS_BEFORE_SLEEP:
            _sleep()


@intrinsic
def _fetch_add(typing_context: Any, counters: Any, index: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw(
            "add", _item(context, builder, signature, args), args[2], "acq_rel"
        )

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def _load(typing_context: Any, counters: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_item(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.int64), generate


def _item(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


def _sleep():  # pragma: no cover
    raise NotImplementedError


@overload(_sleep, inline="always")
def _():
    if sys.platform == "win32":
        return lambda: None
    usleep = types.ExternalFunction("usleep", types.int32(types.uint32))
    return lambda: usleep(np.uint32(_SLEEP))


@njit(nogil=True, cache=True, inline="always")
def exact_sleeps():
    """Have this thread sleep no longer than it asks for; return what `restore_sleeps` takes.

    Linux makes every sleep up to 50 microseconds longer, so as to end several at once. Most waits
    are shorter than that.
    """
    before = _timer_slack(_GET_TIMER_SLACK, 0)
    _timer_slack(_SET_TIMER_SLACK, 1)
    return before


@njit(nogil=True, cache=True, inline="always")
def restore_sleeps(before):
    """Undo `exact_sleeps`."""
    _timer_slack(_SET_TIMER_SLACK, before)


def _timer_slack(operation, nanoseconds):  # pragma: no cover
    raise NotImplementedError


@overload(_timer_slack, inline="always")
def _(operation, nanoseconds):
    if sys.platform != "linux":
        return lambda operation, nanoseconds: np.int32(0)
    prctl = types.ExternalFunction("prctl", types.int32(types.int32, types.uint64))
    return lambda operation, nanoseconds: prctl(np.int32(operation), np.uint64(nanoseconds))
