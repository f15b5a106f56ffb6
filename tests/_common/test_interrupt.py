"""Signals between two units of work."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import pytest

from hyperagg._common import interrupt
from hyperagg._common.interrupt import (
    Interrupted,
    continue_after_interrupt,
    deferred_interrupt,
    raise_on_termination,
)

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


def drop_in_a_destructor():
    class Interrupting:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(10))  # where Python calls the handler

    Interrupting()


def drop_in_a_callback_of_c_code():
    ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM))()


@pytest.mark.parametrize("drop", [drop_in_a_destructor, drop_in_a_callback_of_c_code])
def test_a_signal_whose_exception_python_drops_is_raised_again_and_not_printed(drop, capfd):
    with raise_on_termination() as received:
        with pytest.raises(Interrupted) as error:
            drop()
            time.sleep(60)
        assert error.value.number == signal.SIGTERM and received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert capfd.readouterr() == ("", "")


def test_a_signal_whose_exception_was_dropped_ends_the_next_block(monkeypatch):
    monkeypatch.setattr(interrupt, "_SECONDS_UNTIL_REPEATED", 0.2)
    with raise_on_termination():
        with pytest.raises(Interrupted):
            drop_in_a_destructor()
            with deferred_interrupt():
                pytest.fail("the signal has been lost")
        time.sleep(0.3)  # it is not raised another time


def test_the_timer_of_somebody_else_stays():
    calls = []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append("alarm"))
    try:
        with raise_on_termination():
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(0.05)
            drop_in_a_destructor()
        assert calls == ["alarm"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_other_errors_in_destructors_are_printed_as_before(capfd):
    class Failing:
        def __del__(self):
            raise ValueError("in a destructor")

    hook = sys.unraisablehook
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", sys.__unraisablehook__)
        with raise_on_termination():
            Failing()
    assert sys.unraisablehook is hook
    assert "ValueError: in a destructor" in capfd.readouterr().err


def test_a_training_may_begin_after_an_interruption_that_was_meant_to_end_something_else():
    with raise_on_termination() as received:
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
        continue_after_interrupt()
        with deferred_interrupt() as interrupted:
            assert not interrupted.is_set() and received == [signal.SIGINT]


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
