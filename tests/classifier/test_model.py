"""The parameters of the classifier and their initial distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.pooling import position_blocks
from hyperagg.text import Ragged


def initialize(pooling="harmonic", seed=0, vocab_size=200, num_classes=3, d_model=16):
    rng = np.random.default_rng(seed)
    return ClassifierModel.initialize(vocab_size, num_classes, d_model, pooling, rng)


def test_the_initial_values():
    model = initialize(vocab_size=2000, num_classes=16)
    values = model.embedding
    assert values.dtype == model.weight.dtype == model.bias.dtype == np.float32
    assert 0.98 * 0.05 < np.abs(values).max() <= 0.05
    # The standard deviation of U(-a, a) is a / sqrt(3).
    np.testing.assert_allclose(values.std(), 0.05 / 3**0.5, rtol=0.05)
    assert abs(values.mean()) < 0.05 * 0.05
    np.testing.assert_array_equal(model.weight @ model.weight.T, np.eye(16))
    assert (model.positions == 1).all() and (model.bias == 0).all()


@given(st.integers(1, 70), st.integers(1, 40))
def test_the_initial_weights_of_classes_differ(num_classes, d_model):
    model = initialize(vocab_size=1, num_classes=num_classes, d_model=d_model)
    assert (np.abs(model.weight) == np.float32(d_model**-0.5)).all()
    if num_classes <= 2 ** int(np.log2(d_model)) == d_model:
        np.testing.assert_allclose(model.weight @ model.weight.T, np.eye(num_classes), atol=1e-6)
    if d_model >= 32:  # a row of few numbers has few values
        products = model.weight @ model.weight.T - np.eye(num_classes)
        assert np.abs(products).max() < 0.8


def test_the_generator_determines_the_parameters():
    a, b, c = initialize(seed=1), initialize(seed=1), initialize(seed=2)
    assert all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)
    assert not np.array_equal(a.embedding, c.embedding)


def test_a_row_does_not_depend_on_its_batch():
    model, rng = initialize(), np.random.default_rng(1)
    model.positions[:] = rng.random(model.positions.shape)
    rows = [rng.integers(0, 200, n).astype(np.int32) for n in (5, 0, 9, 300)]
    boundaries = np.cumsum([0, *map(len, rows)])
    together = model.logits(Ragged(np.concatenate(rows), boundaries))
    for i, row in enumerate(rows):
        alone = model.logits(Ragged(row, np.array([0, len(row)])))
        np.testing.assert_array_equal(together[i], alone[0])
    np.testing.assert_array_equal(together[1], model.bias)


def test_counts_parameters():
    assert initialize().num_parameters() == 200 * 16 + 16 * 16 + 3 * 16 + 3


def test_a_copy_and_its_assignment():
    model, other = initialize(), initialize(seed=1)
    copy = model.copy()
    model.assign(other)
    assert np.array_equal(model.embedding, other.embedding)
    assert not np.array_equal(copy.embedding, model.embedding)
    model.divide_head(2)
    np.testing.assert_array_equal(model.weight, other.weight / 2)


@given(st.integers(0, 200_000), st.integers(1, 20))
def test_position_blocks_double(n, num_blocks):
    blocks = position_blocks(n, num_blocks)
    some = np.arange(0, n, max(1, n // 50)).tolist() + [k for k in (0, 1, 2, 3, 6, 7) if k < n]
    for t in some:
        assert blocks[t] == min((t + 1).bit_length() - 1, num_blocks - 1)


@pytest.mark.parametrize(
    ("token_ids", "cu_seqlens", "kind", "message"),
    [
        ([10**6], [0, 1], ValueError, "token_ids: expected ids from 0 to 199, got 1000000"),
        ([200], [0, 1], ValueError, "token_ids: .* got 200"),
        ([5, -1], [0, 2], ValueError, "token_ids: .* got -1"),
        ([5], [0, 2], ValueError, "cu_seqlens: expected ascending integers from 0 to 1"),
        ([5, 6], [1, 2], ValueError, "cu_seqlens"),
        ([5, 6], [0, 3, 2], ValueError, "cu_seqlens"),
        ([5, 6], [], ValueError, "cu_seqlens"),
        ([[5, 6]], [0, 2], TypeError, r"token_ids: expected a 1-D array .* shape \(1, 2\)"),
        ([5.0], [0, 1], TypeError, "token_ids: expected .* integers, got float64"),
    ],
)
def test_rows_of_another_vocabulary_are_refused(token_ids, cu_seqlens, kind, message):
    ids = np.array(token_ids)
    rows = Ragged(ids if ids.dtype == float else ids.astype(np.int32), np.array(cu_seqlens, int))
    with pytest.raises(kind, match=message):
        initialize().logits(rows)
