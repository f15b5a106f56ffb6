"""Signals that end a process, between two units of work instead of in the middle of one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "DeferredInterrupt",
    "Interrupted",
    "continue_after_interrupt",
    "deferred_interrupt",
    "raise_on_termination",
]

# Windows has no SIGHUP.
_TERMINATION = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# The handlers that nobody has chosen, by signal.
_DEFAULTS = {
    signal.SIGINT: (signal.default_int_handler, signal.SIG_DFL),
    **dict.fromkeys(_TERMINATION, (signal.SIG_DFL,)),
}
_SECONDS_UNTIL_REPEATED = 0.01


class Interrupted(KeyboardInterrupt):
    """A signal that ends the process has arrived; `number` says which one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class DeferredInterrupt:
    """The first signal that arrived within a block of `deferred_interrupt`."""

    def __init__(self) -> None:
        self._number: int | None = None

    def is_set(self) -> bool:
        """Return whether a signal has arrived."""
        return self._number is not None

    def set(self, number: int) -> None:
        """Store the number of the signal that has arrived."""
        self._number = number

    def raise_(self) -> None:
        """Raise `Interrupted` if a signal has arrived."""
        if self._number is not None:
            raise Interrupted(self._number)


class _Raise:
    """A signal handler that records the signal and raises `Interrupted`.

    Python prints and drops what is raised in a destructor, in the callback of a weak reference or
    of C code, such as those of the compiler that loads a kernel. Such an `Interrupted` is not
    printed, and raised once more a moment later, by a timer.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.raised: list[int] = []  # those of them for which it has raised
        self._previous: dict[int, Any] = {}
        self._unraisable_hook = sys.unraisablehook
        self._has_timer = False

    def __call__(self, number: int, frame: object) -> None:
        self.received.append(number)
        self.raised.append(number)
        raise Interrupted(number)

    def install(self) -> None:
        """Take the place of the default handlers."""
        for number, defaults in _DEFAULTS.items():
            if (before := signal.getsignal(number)) in defaults:
                self._previous[number] = before
                signal.signal(number, self)
        sys.unraisablehook = self._on_unraisable
        if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
            self._has_timer = True
            signal.signal(signal.SIGALRM, self._repeat)

    def uninstall(self) -> None:
        """Put back what was there before."""
        for number, before in self._previous.items():
            signal.signal(number, before)
        sys.unraisablehook = self._unraisable_hook
        if self._has_timer:
            self._set_timer(0.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def raise_dropped(self) -> None:
        """Raise again if a signal has arrived and the program has gone on nevertheless."""
        if self.raised:
            self._set_timer(0.0)
            raise Interrupted(self.raised[0])

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            self._set_timer(_SECONDS_UNTIL_REPEATED)
        else:
            self._unraisable_hook(unraisable)

    def _set_timer(self, seconds: float) -> None:
        if self._has_timer:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _repeat(self, number: int, frame: object) -> None:
        raise Interrupted(self.raised[-1])


@contextmanager
def raise_on_termination() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP raise within the block, as Ctrl-C does.

    A signal that the process ignores, such as SIGHUP under nohup, stays ignored, and a handler of
    somebody else stays in place.

    Yields:
        the numbers of the signals that have arrived. An exception in the middle of an import may
        come out as another one; this list tells.
    """
    handler = _Raise()
    if threading.current_thread() is not threading.main_thread():
        yield handler.received
        return
    try:
        handler.install()
        yield handler.received
    finally:
        handler.uninstall()


def continue_after_interrupt() -> None:
    """Say that KeyboardInterrupt was caught in order to go on: a training may begin after it."""
    for number in _DEFAULTS:
        if isinstance(handler := signal.getsignal(number), _Raise):
            handler.raised.clear()


@contextmanager
def deferred_interrupt() -> Iterator[DeferredInterrupt]:
    """Turn the first Ctrl-C within the block into a flag, and so SIGTERM and SIGHUP if they raise.

    The second signal raises `Interrupted` or KeyboardInterrupt as usual. Outside the main thread,
    which alone receives signals, the flag is never set.

    Yields:
        the flag; the block checks it between two units of work, and calls its `raise_`.
    """
    interrupt = DeferredInterrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {
        number: before
        for number in _DEFAULTS
        if isinstance(before := signal.getsignal(number), _Raise)
        or (number == signal.SIGINT and callable(before))
    }
    for before in previous.values():
        if isinstance(before, _Raise):
            before.raise_dropped()

    def restore() -> None:
        for number, before in previous.items():
            signal.signal(number, before)

    def handle(number: int, frame: object) -> None:
        interrupt.set(number)
        if isinstance(before := previous[signal.Signals(number)], _Raise):
            before.received.append(number)  # now, for what follows may raise another error
        restore()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield interrupt
    finally:
        restore()
