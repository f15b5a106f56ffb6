"""What is left of a classifier when `fit` does not end."""

from __future__ import annotations

import os
import signal

import pytest

from hyperagg import TextClassifier

TEXTS, LABELS = ["good film", "bad film", "fine film"] * 40, ["yes", "no", "yes"] * 40
EPOCHS = 4


def fit_until(chunk, stop):
    """Return a classifier whose `fit` was stopped after this many callbacks, one per epoch."""
    seen = []

    def callback(progress):
        seen.append(progress)
        if len(seen) == chunk:
            stop()

    clf = TextClassifier(d_model=8, epochs=EPOCHS)
    with pytest.raises((KeyboardInterrupt, OSError)):
        clf.fit(TEXTS, LABELS, callbacks=[callback])
    return clf


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def fail():
    raise OSError("disk full")


def test_ctrl_c_in_the_first_run_leaves_a_usable_classifier():
    clf = fit_until(2, interrupt)
    assert set(clf.predict(TEXTS)) <= {"yes", "no"}
    assert clf.history_.best_epoch == -1
    with pytest.raises(ValueError, match="cannot continue training"):
        clf.partial_fit(TEXTS, LABELS)


@pytest.mark.parametrize("stop", [interrupt, fail])
def test_a_stop_in_the_second_run_leaves_the_result_of_the_first(stop):
    clf = fit_until(EPOCHS + 1, stop)
    first = TextClassifier(d_model=8, epochs=EPOCHS, refit=False).fit(TEXTS, LABELS)
    assert (clf.logits(TEXTS) == first.logits(TEXTS)).all()
    assert clf.history_.temperature == first.history_.temperature
    clf.partial_fit(TEXTS, LABELS)


def test_a_failure_in_the_first_run_leaves_no_classifier():
    with pytest.raises(ValueError, match="not fitted"):
        fit_until(2, fail).predict("good")
