"""Computes the scores of labels that are the leaves of a binary tree.

Every inner node has a logit z and decides for its second child with probability sigmoid(z). The
score of a label is the sum over the nodes on its path,

    score_c  =  sum_n log(P(decision of node n) + 1e-5)

so softmax(score) is the probability of the label, but for the 1e-5 that fastText adds.

Source: Joulin et al. (2017), "Bag of Tricks for Efficient Text Classification"; the tree is that of
Huffman (1952) over the frequencies of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperagg._numba.cache import njit

__all__ = ["check_tree", "huffman_tree", "label_scores"]

_EPSILON = np.float32(1e-5)
_BLOCK = 1 << 15  # logits whose intermediate results stay in the cache
_MAX_TOTAL = 10**15  # the count of a node that fastText has not built yet


def huffman_tree(counts: Sequence[int]) -> np.ndarray:
    """Return the tree that fastText builds for labels by decreasing frequency.

    Args:
        counts: the frequency of each of C labels, C >= 2.

    Returns:
        (C - 1, 2) int32, the children of every node: c < C is label c, C + n is node n. The
        children of a node come before it, and the last node is the root.

    Raises:
        ValueError: a count is negative, or they sum to 10^15 or more.

    Cost: O(C).
    """
    if min(counts) < 0 or sum(counts) >= _MAX_TOTAL:
        raise ValueError("the counts of the labels are out of range")
    num_labels = len(counts)
    totals = [*counts]
    leaf, node = num_labels - 1, num_labels
    children = np.empty((num_labels - 1, 2), dtype=np.int32)
    for pair in children:
        for side in (0, 1):
            unbuilt = node == len(totals)
            if leaf >= 0 and (unbuilt or totals[leaf] < totals[node]):
                pair[side], leaf = leaf, leaf - 1
            else:
                pair[side], node = node, node + 1
        totals.append(totals[pair[0]] + totals[pair[1]])
    return children


def check_tree(tree: np.ndarray) -> None:
    """Raise a ValueError unless an array is a tree as `huffman_tree` returns it."""
    nodes = len(tree)
    if (
        tree.shape != (nodes, 2)
        or tree.dtype != np.int32
        or not np.array_equal(np.sort(tree, axis=None), np.arange(2 * nodes))
        or (tree.max(1) > nodes + np.arange(nodes)).any()
    ):
        raise ValueError("tensor tree is not a binary tree over the classes")


def label_scores(tree: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the scores (B, C) float32 of the labels.

    Args:
        tree: (C - 1, 2), from `huffman_tree`.
        logits: (B, C) float32, those of the nodes; the last column is not used.

    Numerics: float32. Cost: O(B C).
    """
    out = np.empty_like(logits)
    size = max(1, _BLOCK // logits.shape[1])
    for begin in range(0, len(logits), size):
        z = logits[begin : begin + size, :-1]
        odds = np.exp(-np.abs(z))
        second = np.where(z > 0, 1, odds) / (1 + odds)
        first = np.log(1 - second + _EPSILON)
        second = np.log(second + _EPSILON)
        _descend(tree, first, second, out[begin : begin + size])
    return out


@njit(nogil=True, cache=True)
def _descend(tree, first, second, out):
    num_labels = out.shape[1]
    scores = np.zeros(num_labels - 1, dtype=np.float32)  # that of the root stays 0
    for row in range(len(out)):
        for node in range(num_labels - 2, -1, -1):
            for side in (0, 1):
                step = second[row, node] if side else first[row, node]
                child = tree[node, side]
                if child < num_labels:
                    out[row, child] = scores[node] + step
                else:
                    scores[child - num_labels] = scores[node] + step
