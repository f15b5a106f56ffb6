"""Tasks that threads share: each is computed once, and all wait for the last one."""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
import pytest
from numba import njit

from hyperagg._numba import tasks


@njit(nogil=True)
def _compute(counters, done, seen):
    """In every phase, add one to each task, then count the tasks that are done."""
    for phase in range(len(done)):
        task = tasks.claim(counters, phase)
        while task < done.shape[1]:
            done[phase, task] += 1
            tasks.finish(counters, phase)
            task = tasks.claim(counters, phase)
        tasks.wait(counters, phase, done.shape[1])
        seen[phase] = done[phase].sum()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 7])
def test_every_task_is_computed_once_and_before_any_thread_goes_on(threads, number):
    phases = 200
    done, counters = np.zeros((phases, number), np.int64), tasks.new_counters(phases)
    seen = np.zeros((threads, phases), np.int64)
    _compute(tasks.new_counters(0), done[:0], seen[0, :0])  # compiles
    workers = [threading.Thread(target=_compute, args=(counters, done, each)) for each in seen]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert (done == 1).all()
    assert (seen == number).all()


def test_a_thread_that_comes_late_finds_nothing_to_do():
    done, counters, seen = np.zeros((5, 3), np.int64), tasks.new_counters(5), np.zeros(5, np.int64)
    _compute(counters, done, seen)
    _compute(counters, done, seen)
    assert (done == 1).all()


@njit
def _slack_within():
    before = tasks.exact_sleeps()
    within = tasks.exact_sleeps()
    tasks.restore_sleeps(before)
    return within


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux rounds sleeps up")
def test_sleeps_are_as_before_afterwards():
    read = 30  # PR_GET_TIMERSLACK
    before = ctypes.CDLL(None).prctl(read, 0)
    assert _slack_within() == 1
    assert ctypes.CDLL(None).prctl(read, 0) == before
