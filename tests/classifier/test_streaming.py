"""A document that is streamed predicts what its whole text does."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperagg


@pytest.fixture(scope="module")
def trained():
    data = hyperagg.load_dataset("r8")
    return hyperagg.TextClassifier(d_model=16, epochs=2).fit(
        data.train.texts[:800], data.train.labels[:800]
    )


def whole_text(trained, text):
    return trained.predict_proba([text])[0]


def test_any_prefix_of_a_newswire(trained):
    text = hyperagg.load_dataset("r8").test.texts[3]
    document = trained.stream()
    for i, character in enumerate(text):
        document.append(character)
        if i % 50 == 0 or i == len(text) - 1:
            assert np.array_equal(document.predict_proba(), whole_text(trained, text[: i + 1]))
    assert document.predict() == trained.predict([text])[0]
    assert len(document) == len(text.split())


# The hard cases: capital sigma, a letter with two lower-case characters, and marks.
PIECES = st.text(st.sampled_from("aZΣσ.'·İé \n\u0301\u2003漢,_9")) | st.text()


@given(st.lists(PIECES, max_size=6))
def test_any_split_of_any_text(trained, pieces):
    document = trained.stream()
    for piece in pieces:
        document.append(piece)
    assert np.array_equal(document.predict_proba(), whole_text(trained, "".join(pieces)))


def test_memory_does_not_grow_with_the_document(trained):
    piece = "oil prices rose after opec cut output " * 2000
    document = trained.stream()
    document.append(piece)
    tracemalloc.start()
    for _ in range(20):
        document.append(piece)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < len(piece)
    assert len(document) == 21 * 2000 * 7
    assert np.array_equal(document.predict_proba(), whole_text(trained, piece * 21))


def test_a_classifier_that_cannot_stream_says_so(trained):
    data = hyperagg.load_dataset("r8")
    short = hyperagg.TextClassifier(max_tokens=5, d_model=8, epochs=1)
    with pytest.raises(ValueError, match="stream: not available with max_tokens=5"):
        short.fit(data.train.texts[:60], data.train.labels[:60]).stream()
    with pytest.raises(TypeError, match="text: expected str, got bytes"):
        trained.stream().append(b"oil")
