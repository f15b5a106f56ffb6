"""Signals that end a process, between two units of work instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DeferredInterrupt", "Interrupted", "deferred_interrupt", "raise_on_termination"]

# Windows has no SIGHUP.
_TERMINATION = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


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
    """A signal handler that records the signal and raises `Interrupted`."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.raised: list[int] = []  # those of them for which it has raised

    def __call__(self, number: int, frame: object) -> None:
        self.received.append(number)
        self.raised.append(number)
        raise Interrupted(number)


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
    previous = {}
    if threading.current_thread() is threading.main_thread():
        handled = {signal.SIGINT: signal.default_int_handler}
        handled |= dict.fromkeys(_TERMINATION, signal.SIG_DFL)
        for number, default in handled.items():
            if signal.getsignal(number) is default or signal.getsignal(number) == default:
                previous[number] = signal.signal(number, handler)
    try:
        yield handler.received
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


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
        for number in (signal.SIGINT, *_TERMINATION)
        if isinstance(before := signal.getsignal(number), _Raise)
        or (number == signal.SIGINT and callable(before))
    }

    for before in previous.values():
        # Python drops what a handler raises in a callback of C code, such as of the compiler.
        if isinstance(before, _Raise) and before.raised:
            raise Interrupted(before.raised[0])

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
