"""Signals between two units of work."""

from __future__ import annotations

import ctypes
import os
import signal

import pytest

from hyperagg._common.interrupt import Interrupted, deferred_interrupt, raise_on_termination

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_and_the_second_does_not(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with raise_on_termination() as received:
        with pytest.raises(Interrupted) as error, deferred_interrupt() as interrupted:
            interrupted.raise_()
            os.kill(os.getpid(), number)
            assert interrupted.is_set() and received == [number]
            interrupted.raise_()
        assert error.value.number == number
        with pytest.raises(Interrupted), deferred_interrupt():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            pytest.fail("the second signal has been ignored")
        assert received == 3 * [number]
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_signal_whose_exception_was_dropped_ends_the_next_block():
    callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with raise_on_termination() as received:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.unraisablehook", lambda unraisable: None)
            callback()
        assert received == [signal.SIGTERM]  # and the program goes on
        with pytest.raises(Interrupted), deferred_interrupt():
            pytest.fail("the signal has been lost")


def test_handlers_of_others_and_ignored_signals_stay():
    """A library does not decide what SIGTERM means, and nohup has a process ignore SIGHUP."""
    calls = []
    previous = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: calls.append("term")),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    }
    try:
        with raise_on_termination() as received, deferred_interrupt() as interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            assert calls == ["term"] and received == [] and not interrupted.is_set()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
