"""The lock of an estimator is neither copied nor inherited."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import warnings

import pytest

from hyperagg._common.training_lock import TrainingLock


def is_free(lock, seconds=60.0):
    """Whether another thread can take a lock within some time."""
    taken = threading.Event()

    def take():
        with lock:
            taken.set()

    threading.Thread(target=take, daemon=True).start()
    return taken.wait(seconds)


def test_one_thread_holds_it_as_often_as_it_likes():
    lock = TrainingLock()
    with lock:
        with lock:
            assert not is_free(lock, 0.1)
        assert not is_free(lock, 0.1)
    assert is_free(lock)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))])
def test_a_copy_is_free(copied):
    lock = TrainingLock()
    with lock:
        assert is_free(copied(lock))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_lacks():
    lock, held, done = TrainingLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        process = os.fork()
    if process == 0:
        os._exit(0 if is_free(lock) else 1)
    _, status = os.waitpid(process, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
