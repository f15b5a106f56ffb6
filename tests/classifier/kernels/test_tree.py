"""The scores of labels in a binary tree, beside the definition in plain Python."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.classifier.kernels.tree import check_tree, huffman_tree, label_scores

counts = st.lists(st.integers(0, 9) | st.integers(0, 10**9), min_size=2, max_size=40)


def paths(tree):
    """For every label the pairs (node, side) from the root to it."""
    num_labels, found = len(tree) + 1, {}

    def visit(node, path):
        if node < num_labels:
            found[node] = path
            return
        for side in (0, 1):
            visit(int(tree[node - num_labels, side]), [*path, (node - num_labels, side)])

    visit(2 * num_labels - 2, [])
    return [found[label] for label in range(num_labels)]


@given(counts)
def test_the_tree_is_that_of_huffman(counts):
    counts = sorted(counts, reverse=True)
    tree = huffman_tree(counts)
    check_tree(tree)
    cost = sum(count * len(path) for count, path in zip(counts, paths(tree)))
    heap, least = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        least += (both := heapq.heappop(heap) + heapq.heappop(heap))
        heapq.heappush(heap, both)
    assert cost == least


@given(counts)
def test_a_tree_over_counts_in_any_order(counts):
    check_tree(huffman_tree(counts))


@given(counts, st.integers(0, 2**32 - 1))
def test_scores_by_definition(counts, seed):
    tree = huffman_tree(counts)
    logits = np.random.default_rng(seed).normal(0, 5, (3, len(counts))).astype(np.float32)
    scores = label_scores(tree, logits)
    assert scores.dtype == np.float32
    for row, z in zip(scores, logits.tolist()):
        expected = [
            sum(math.log(1 / (1 + math.exp(z[n] if side == 0 else -z[n])) + 1e-5)
                for n, side in path)
            for path in paths(tree)
        ]  # fmt: skip
        assert np.allclose(row, expected, rtol=1e-4, atol=2e-2)  # log(1e-5 + float32 rounding)
        assert np.allclose(np.exp(row), np.exp(expected), atol=2e-6)
        assert abs(np.exp(row).sum() - 1) < 1e-3


TREES = {
    "a child twice": [[0, 1], [2, 2]],
    "a child that comes later": [[0, 4], [1, 2], [3, 5]],
    "no such child": [[0, 1], [2, 9]],
    "a negative child": [[0, 1], [2, -3]],
    "not pairs": [[0, 1, 2]],
}


@pytest.mark.parametrize("case", TREES)
def test_other_arrays_are_refused(case):
    with pytest.raises(ValueError, match="tree"):
        check_tree(np.array(TREES[case], dtype=np.int32))
    with pytest.raises(ValueError, match="tree"):
        check_tree(np.array([[1.0, 0.0]], dtype=np.float32))
