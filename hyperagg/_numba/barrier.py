"""A place where the threads of a compiled kernel wait for each other."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

__all__ = ["wait"]

# A wait takes well under a microsecond while all threads have a core; one that has none needs
# the core of those who wait.
_TURNS_BEFORE_YIELD = 4000
_ONE = np.int64(1)


@njit(nogil=True, cache=True, inline="always")
def wait(arrivals, threads, passed):
    """Returns when `threads` threads have called it `passed` times, counting this call.

    arrivals (1,) int64, 0 before the first call, is shared by all of them.
    """
    if threads == 1:
        return
    _arrive(arrivals, _ONE)
    turns = 0
    while _arrived(arrivals) < threads * passed:
        turns += 1
        if turns > _TURNS_BEFORE_YIELD:
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
