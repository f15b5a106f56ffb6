"""A barrier for the threads of a compiled kernel."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from hyperagg._numba.cache import njit

__all__ = ["wait"]

# A wait takes well under a microsecond while every thread has a core. A thread without one needs
# the core of a thread that waits.
_SPINS_BEFORE_YIELD = 4000
_ONE = np.int64(1)


@njit(nogil=True, cache=True, inline="always")
def wait(arrivals, threads, passed):
    """Return when each of `threads` threads has called it `passed` times, including this call.

    Args:
        arrivals: (1,) int64, shared by all threads; 0 before the first call.
        threads: the number of threads.
        passed: the number of calls that this thread has made, including this one.
    """
    if threads == 1:
        return
    _arrive(arrivals, _ONE)
    spins = 0
    while _arrived(arrivals) < threads * passed:
        spins += 1
        if spins > _SPINS_BEFORE_YIELD:
            _yield()


@intrinsic
def _arrive(typing_context: Any, counter: Any, one: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        builder.atomic_rmw("add", array.data, args[1], "seq_cst")
        return context.get_dummy_value()

    return types.void(counter, one), generate


@intrinsic
def _arrived(typing_context: Any, counter: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "seq_cst", 8)

    return types.int64(counter), generate


def _yield():  # pragma: no cover
    raise NotImplementedError


@overload(_yield, inline="always")
def _():
    if sys.platform == "win32":
        return lambda: None
    sched_yield = types.ExternalFunction("sched_yield", types.int32())
    return lambda: sched_yield()
