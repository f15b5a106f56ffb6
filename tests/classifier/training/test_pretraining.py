"""Token vectors from texts without labels, beside their definition."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg._numba.threads import limit_threads
from hyperagg.classifier.training.pretraining import pretrain_vectors
from hyperagg.text import Ragged, WordTokenizer, occurrence_weights


def random_rows(texts=600, vocabulary=80, seed=0):
    """Texts on one of five subjects, each of which has ten words of its own among common ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, texts)
    subjects = rng.integers(5, size=texts)
    rows = [
        np.where(rng.random(n) < 0.3, rng.integers(vocabulary, size=n), 10 * s + own)
        for n, s in zip(lengths, subjects)
        for own in [rng.integers(10, size=n)]
    ]
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(np.concatenate(rows).astype(np.int32), boundaries)


def test_the_vectors_are_those_of_a_singular_value_decomposition():
    rows, vocabulary, width = random_rows(), 80, 5  # as many as subjects
    ids, vectors = pretrain_vectors(rows, vocabulary, width, seed=0)
    matrix = np.zeros((len(rows), vocabulary))
    owners = np.repeat(np.arange(len(rows)), rows.lengths)
    weights = occurrence_weights(rows, vocabulary)
    frequencies = np.bincount(rows.token_ids[weights == 1], minlength=vocabulary)
    idf = np.log(len(rows) / frequencies)
    np.add.at(matrix, (owners, rows.token_ids), weights * idf[rows.token_ids])
    squares = np.bincount(owners, (weights * idf[rows.token_ids]) ** 2)
    right = np.linalg.svd(matrix / np.sqrt(squares)[:, None])[2][:width].T
    wanted = right / np.linalg.norm(right, axis=1, keepdims=True)
    assert ids.tolist() == list(range(vocabulary))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(vocabulary), abs=1e-5)
    # The same up to a rotation, which does not change the cosines.
    assert np.abs(vectors @ vectors.T - wanted @ wanted.T).max() < 0.1


def test_tokens_of_the_same_texts_have_similar_vectors():
    _, vectors = pretrain_vectors(random_rows(), 80, 5, seed=0)
    same, other = vectors[:10] @ vectors[:10].T, vectors[:10] @ vectors[10:20].T
    assert same.mean() > other.mean() + 0.5


def test_any_number_of_threads_gives_the_same_bits():
    rows = random_rows(6000, 5000)
    found = []
    for threads in (1, 3):
        with limit_threads(threads):
            found.append(pretrain_vectors(rows, 5000, 16, seed=1)[1])
    assert (found[0] == found[1]).all()
    assert (found[0] != pretrain_vectors(rows, 5000, 16, seed=2)[1]).any()


def test_rare_tokens_and_those_of_all_texts_have_no_vectors():
    texts = ["the cat", "the cat", "the cat", "the dog", "the dog", "the bird"]
    tokenizer = WordTokenizer.train(texts)
    ids, _ = pretrain_vectors(tokenizer.encode(texts), len(tokenizer), 4, seed=0)
    assert [tokenizer.vocabulary[i] for i in ids] == ["cat"]


def test_more_dimensions_than_tokens():
    texts = ["red cat", "red dog", "blue cat", "blue dog"] * 3
    tokenizer = WordTokenizer.train(texts)
    ids, vectors = pretrain_vectors(tokenizer.encode(texts), len(tokenizer), 32, seed=0)
    assert len(ids) == 4
    assert np.isfinite(vectors).all()


def test_texts_without_common_words_are_refused():
    rows = WordTokenizer.train(["a", "b"]).encode(["a", "b"])
    with pytest.raises(ValueError, match="unlabelled: expected texts with common words"):
        pretrain_vectors(rows, 3, 4, seed=0)
