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
    with pytest.raises(ValueError, match="interrupted in its first run, so it cannot continue"):
        clf.partial_fit(TEXTS, LABELS)


def test_ctrl_c_in_the_second_run_leaves_the_result_of_the_first():
    clf = fit_until(EPOCHS + 1, interrupt)
    first = TextClassifier(d_model=8, epochs=EPOCHS, refit=False).fit(TEXTS, LABELS)
    assert (clf.logits(TEXTS) == first.logits(TEXTS)).all()
    assert clf.history_.temperature == first.history_.temperature
    clf.partial_fit(TEXTS, LABELS)


@pytest.mark.parametrize("chunk", [2, EPOCHS + 1])
def test_a_failure_leaves_no_classifier(chunk):
    with pytest.raises(ValueError, match="not fitted"):
        fit_until(chunk, fail).predict("good")


@pytest.mark.parametrize(
    "arguments",
    [
        dict(validation=(TEXTS, ["zz"] * len(TEXTS))),
        dict(vectors="nofile.vec"),
        dict(callbacks=[lambda progress: fail()]),
    ],
)
def test_a_failing_fit_leaves_the_classifier_as_it_was(arguments):
    clf = TextClassifier(d_model=8, epochs=EPOCHS).fit(TEXTS, LABELS)
    clf.quantize()
    before = clf.logits(TEXTS)
    with pytest.raises((ValueError, OSError)):
        clf.fit([*TEXTS, "new words"], [*LABELS, "other"], **arguments)
    assert clf.classes_ == ["no", "yes"]
    assert (clf.logits(TEXTS) == before).all()
    assert clf._state.scales is not None


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        (dict(refit=False), {}),
        (dict(validation_fraction=0.2), {}),
        ({}, dict(validation=(TEXTS[:30], LABELS[:30]))),
        ({}, dict(vectors="words.vec")),
        ({}, dict(seed=1)),
    ],
)
def test_a_checkpoint_of_the_second_run_belongs_to_both_runs(
    config, arguments, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = [f"{word} {'0.5 ' * 7}{i}" for i, word in enumerate(("good", "bad", "fine"))]
    (tmp_path / "words.vec").write_text("\n".join(["3 8", *rows, ""]), "utf-8")
    file, seen = tmp_path / "state.safetensors", []

    def callback(progress):
        seen.append(progress)
        if len(seen) == EPOCHS + 1:
            interrupt()

    def classifier(**other):
        return TextClassifier(**{"d_model": 8, "epochs": EPOCHS, **other})

    with pytest.raises(KeyboardInterrupt):
        classifier().fit(TEXTS, LABELS, checkpoint=file, callbacks=[callback])
    with pytest.raises(ValueError, match="belongs to a run with other data or arguments"):
        classifier(**config).fit(TEXTS, LABELS, checkpoint=file, resume=True, **arguments)
    resumed = classifier().fit(TEXTS, LABELS, checkpoint=file, resume=True)
    whole = classifier().fit(TEXTS, LABELS)
    assert (resumed.logits(TEXTS) == whole.logits(TEXTS)).all()
    # What is lost with the process is kept until the model is saved.
    assert file.exists()
    resumed.save_pretrained(tmp_path / "model")
    assert not file.exists()


@pytest.mark.parametrize(("per_class", "held_out"), [(5, 0), (10, 41)])
def test_few_texts_of_a_few_large_classes_do_not_decide_the_epoch(per_class, held_out):
    # With five texts per class, only the large one has a tenth to hold out: 2 of 215 texts.
    labels = [f"l{i % 39}" for i in range(39 * per_class)] + ["large"] * 20
    texts = [f"{label} word{i % 7}" for i, label in enumerate(labels)]
    clf = TextClassifier(d_model=8, epochs=EPOCHS).fit(texts, labels)
    assert clf.history_.num_validation == held_out
    if not held_out:
        assert clf.history_.best_epoch == EPOCHS - 1
