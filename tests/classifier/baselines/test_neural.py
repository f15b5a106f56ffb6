"""Attention and the transformer block as estimators, on newswires."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg.classifier.baselines.neural import NeuralClassifier

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def one_thread():
    """Small batches on several threads of a busy machine are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows():
    """The first words of 400 newswires to learn from and of 100 to measure on."""
    train = hyperagg.load_dataset("r8").train
    pairs = [
        (" ".join(text.split()[:40]), label)
        for text, label in zip(train.texts, train.labels)
        if label in {"earn", "acq", "crude", "trade"}
    ]
    picked = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:500]]
    texts, labels = zip(*picked)
    return (texts[:400], labels[:400]), (texts[400:], labels[400:])


@pytest.mark.parametrize(
    ("architecture", "learning_rate"), [("attention", 0.01), ("transformer", 0.003)]
)
def test_it_learns_newswires(rows, architecture, learning_rate):
    clf = NeuralClassifier(architecture, d_model=32, learning_rate=learning_rate).fit(*rows[0])
    scores = clf.evaluate(*rows[1])
    assert list(scores) == ["accuracy", "macro_f1", "expected_calibration_error"]
    assert scores["accuracy"] > 0.8
    predicted = clf.predict(rows[1][0])
    assert np.mean([a == b for a, b in zip(predicted, rows[1][1])]) == scores["accuracy"]
    probabilities = clf.predict_proba(rows[1][0])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert [clf.classes_[c] for c in probabilities.argmax(1)] == predicted
    best = clf.validation_scores_[clf.best_epoch_]
    assert best == max(clf.validation_scores_) and len(clf.epoch_seconds_) > clf.best_epoch_
    assert clf.num_parameters() > len(clf.tokenizer_) * 32


def test_the_seed_determines_the_weights_and_the_process_is_not_seeded(rows):
    state = torch.random.get_rng_state()

    def fit(seed):
        clf = NeuralClassifier("attention", d_model=8, epochs=1).fit(*rows[0], seed=seed)
        return clf.predict_proba(rows[1][0])

    first = fit(0)
    assert np.array_equal(first, fit(0)) and not np.array_equal(first, fit(1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_several_labels_per_text(rows):
    def with_length(texts, labels):
        return texts, [(y, "long") if len(x.split()) > 39 else (y,) for x, y in zip(texts, labels)]

    clf = NeuralClassifier("attention", d_model=32)
    assert clf.training_config(multi_label=True)["epochs"] == 10
    scores = clf.fit(*with_length(*rows[0])).evaluate(*with_length(*rows[1]))
    assert clf.multi_label_ and isinstance(clf.predict(rows[1][0])[0], tuple)
    assert list(scores) == ["micro_f1", "macro_f1", "expected_calibration_error"]
    assert scores["micro_f1"] > 0.7


def test_what_it_refuses(rows):
    with pytest.raises(ValueError, match=r"architecture='lstm': expected one of .*attention"):
        NeuralClassifier("lstm")
    with pytest.raises(ValueError, match="d_model=30: expected a multiple of 4"):
        NeuralClassifier(d_model=30)
    with pytest.raises(ValueError, match="epochs=0: expected an integer >= 1"):
        NeuralClassifier(epochs=0)
    with pytest.raises(ValueError, match="y: 1 class; expected at least 2"):
        NeuralClassifier().fit(["a", "b"], ["x", "x"])
    wild = NeuralClassifier(d_model=8, epochs=2, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"learning_rate=1e\+30: the loss is not finite"):
        wild.fit(*rows[0])


def test_without_pytorch_one_line_names_the_extra():
    code = "import sys; sys.modules['torch'] = None\nimport hyperagg.classifier.baselines.neural"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("need PyTorch: pip install 'hyperagg[torch]'")
