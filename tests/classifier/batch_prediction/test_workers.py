"""The processes of a pool."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from hyperagg.classifier.batch_prediction.workers import ordered_map


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_a_worker_starts_with_ctrl_c_blocked():
    """It belongs to the parent, also while a worker still imports its modules."""
    blocked_signals = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    ((_, blocked),) = ordered_map(blocked_signals, [()], workers=2)
    assert signal.SIGINT in blocked
