"""Lets several threads call the training methods of one estimator."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["TrainingLock", "one_at_a_time"]


class TrainingLock:
    """The lock of an estimator, which a thread holds while it trains.

    The thread that holds it may train on, as `partial_fit` does that calls `fit`. A copy, a pickle
    and a forked process have a lock of their own, which nobody holds.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():  # the thread that held it does not exist here
            self._lock, self._process = threading.RLock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[TrainingLock], tuple[()]]:
        return TrainingLock, ()


class _Estimator(Protocol):
    _training_lock: TrainingLock


_Self = TypeVar("_Self", bound=_Estimator)
_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def one_at_a_time(
    method: Callable[Concatenate[_Self, _Arguments], _Returned],
) -> Callable[Concatenate[_Self, _Arguments], _Returned]:
    """Let a training method wait until another thread has trained the estimator.

    Each of them begins with what the estimator has learned, and replaces it in the end; of two at a
    time, one would replace what the other has learned.
    """

    @wraps(method)
    def locked(self: _Self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Returned:
        with self._training_lock:
            return method(self, *args, **kwargs)

    return locked
