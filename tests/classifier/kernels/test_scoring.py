"""One text is scored as many are, and by the parameters that the model has now."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.predictor import Predictor
from hyperagg.text import WordTokenizer

TEXTS = ["good film , really good", "a bad film", "", "unknown", "café « bad »"]


@pytest.fixture
def predictor():
    tokenizer = WordTokenizer.train(TEXTS, max_ngrams=50)
    rng = np.random.default_rng(0)
    model = ClassifierModel.initialize(len(tokenizer), 3, 7, "harmonic", rng)
    return Predictor(model, tokenizer, LabelDecoder(["a", "b", "c"]))


def check(predictor: Predictor) -> None:
    together = predictor.model.logits(predictor.tokenizer.encode(TEXTS))
    for text, expected in zip(TEXTS, together):
        assert predictor.logits([text]).tobytes() == expected.tobytes()
        assert predictor.predict(text) == predictor.predict([text])[0]
        assert predictor.predict(text) == predictor.decoder.labels(expected[None])[0]
        (best, _), *_ = predictor.predict(text, top_k=1)
        assert best == predictor.predict(text)


@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
def test_one_text_has_the_bits_of_many(predictor, pooling):
    predictor.model.pooling = pooling
    check(predictor)


def test_values_and_arrays_that_change(predictor):
    check(predictor)
    predictor.model.embedding *= 2
    check(predictor)
    for name, array in predictor.model.arrays.items():
        setattr(predictor.model, name, array[::-1].copy())
        check(predictor)


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, through_pickle])
def test_a_copy_reads_its_own_parameters(predictor, duplicate):
    check(predictor)  # from here on the model knows the addresses of its arrays
    before = predictor.logits(TEXTS[0])
    other = duplicate(predictor)
    if other.model is not predictor.model:
        other.model.bias += 1
        assert not np.shares_memory(other.model.bias, predictor.model.bias)
        np.testing.assert_array_equal(predictor.logits(TEXTS[0]), before)
        np.testing.assert_allclose(other.logits(TEXTS[0]), before + 1, rtol=1e-5)
    check(other)


def test_arrays_of_another_layout(predictor):
    model = predictor.model
    wide = np.zeros((len(model.embedding), 14), dtype=np.float32)
    wide[:, ::2] = model.embedding
    model.embedding = wide[:, ::2]
    assert model.text_scorer() is None
    check(predictor)


def test_arrays_that_are_read_only(predictor):
    for array in predictor.model.arrays.values():
        array.flags.writeable = False
    assert predictor.model.text_scorer() is not None
    check(predictor)


@pytest.mark.parametrize("bias", [[0, 0, 0], [1, 2, 2], [0, np.nan, 9], [np.nan, 1, np.nan]])
def test_the_best_class_is_that_of_argmax(predictor, bias):
    predictor.model.weight[:] = 0
    predictor.model.bias[:] = bias
    assert predictor.predict("film") == "abc"[np.argmax(bias)]
