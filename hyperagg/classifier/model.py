"""Holds the parameters of a text classifier.

    logits  =  W sum_t w_t e_t * p_b(t) / |w| + b

e_t is the embedding of token t, p_b(t) the vector of the block of positions that t lies in, and w_t
the weight of the token's occurrence. In a model with hierarchical softmax these are the logits of
the nodes of a tree, from which those of the labels follow.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperagg.classifier.initialization import orthogonal_signs, uniform
from hyperagg.classifier.kernels import scoring
from hyperagg.classifier.kernels.tree import label_scores
from hyperagg.classifier.pooling import NUM_BLOCKS, Pooling
from hyperagg.text import Ragged

__all__ = ["ClassifierModel"]

_INITIAL_RANGE = 0.05


@dataclass
class ClassifierModel:
    """The parameters of a text classifier, float32 arrays.

    Args:
        embedding: (V, D) the vectors of the tokens.
        positions: (16, D) the position vectors. Block k holds the positions t with
            floor(log2(t + 1)) = k; the last block has no end.
        weight: (C, D) the weights of the linear head.
        bias: (C,) its bias.
        pooling: "harmonic": the c-th occurrence of a token in a text has the weight w_t = 1/c, and
            |w| is the square root of the sum of the squared weights; or "mean": all weights are 1,
            and |w| is their number.
        tree: (C - 1, 2) int32, of a model with hierarchical softmax; see `kernels.tree`. The rows
            of the head are those of its nodes, and the last row is not used.

    Example:
        >>> from hyperagg.text import Ragged
        >>> model = ClassifierModel.initialize(9, 2, 4, "harmonic", np.random.default_rng(0))
        >>> model.logits(Ragged(np.array([1, 2, 2], np.int32), np.array([0, 3]))).shape
        (1, 2)
    """

    embedding: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    pooling: Pooling = "harmonic"
    tree: np.ndarray | None = None
    # The arrays and the pooling that the scorer was made of, and the scorer.
    _scored: tuple[Any, ...] | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def initialize(
        cls,
        vocab_size: int,
        num_classes: int,
        d_model: int,
        pooling: Pooling,
        rng: np.random.Generator,
    ) -> ClassifierModel:
        """Return a model with random parameters.

        The embedding is drawn from U(-0.05, 0.05). The rows of `weight` are orthonormal if there
        are at most D and D is a power of two, and nearly so otherwise, because few texts do not
        suffice to separate classes that start alike. The position vectors are 1, the bias is 0.
        """
        return cls(
            embedding=uniform(rng, _INITIAL_RANGE, vocab_size, d_model),
            positions=np.ones((NUM_BLOCKS, d_model), dtype=np.float32),
            weight=orthogonal_signs(rng, num_classes, d_model) * np.float32(d_model**-0.5),
            bias=np.zeros(num_classes, dtype=np.float32),
            pooling=pooling,
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name; they share memory with the model."""
        arrays = {
            "embedding": self.embedding,
            "positions": self.positions,
            "weight": self.weight,
            "bias": self.bias,
        }
        return arrays if self.tree is None else arrays | {"tree": self.tree}

    @property
    def kernel_arguments(self) -> scoring.ModelArrays:
        """The parameters in the form that the kernels take, without the tree."""
        arrays = {
            name: _for_kernels(array) for name, array in self.arrays.items() if name != "tree"
        }
        return scoring.ModelArrays(**arrays, harmonic=self.pooling == "harmonic")

    def logits(self, rows: Ragged) -> np.ndarray:
        """Return the logits (B, C) float32 of rows of token ids; with a tree the `label_scores`.

        Raises:
            TypeError, ValueError: `rows` are not rows of ids of this vocabulary.

        Numerics: sums over tokens in float64. Cost: O(n D + C D) per row of n tokens.
        """
        _check_rows(rows, len(self.embedding))
        logits = scoring.logits(self.kernel_arguments, rows)
        return logits if self.tree is None else label_scores(_for_kernels(self.tree), logits)

    def text_scorer(self) -> scoring.TextScorer | None:
        """Return what computes the logits of single texts; None if the layout of the arrays in
        memory does not allow it, or the model has a tree."""
        if self.tree is not None:
            return None
        known = self._scored
        # Every text that is predicted comes here, so nothing is built unless an array was replaced.
        # The scorer of a mapped model has other array objects, on the same memory.
        if (
            known is None
            or known[0] is not self.embedding
            or known[1] is not self.positions
            or known[2] is not self.weight
            or known[3] is not self.bias
            or known[4] != self.pooling
        ):
            arrays = self.kernel_arguments
            supported = scoring.TextScorer.supports(arrays)
            scorer = scoring.TextScorer(arrays) if supported else None
            known = self.embedding, self.positions, self.weight, self.bias, self.pooling, scorer
            self._scored = known  # at once, because other threads read it
        return known[5]

    def refuse_tree(self, method: str) -> None:
        """Raise a ValueError if the logits of labels are not sums over tokens, which `method`
        requires."""
        if self.tree is not None:
            raise ValueError(
                f"{method}: this model was trained with hierarchical softmax (fastText's -loss "
                "hs), so its logits are not sums over tokens; expected a model with another loss"
            )

    def num_parameters(self) -> int:
        """Return the number of trained numbers."""
        return sum(array.size for name, array in self.arrays.items() if name != "tree")

    def checksum(self) -> int:
        """Return the CRC-32 of all parameters. Cost: one pass over them, at about 2 GB/s."""
        checksum = 0
        for array in self.arrays.values():
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
        return checksum

    def copy(self) -> ClassifierModel:
        """Return a model with arrays of its own."""
        copies = {name: array.copy() for name, array in self.arrays.items()}
        return ClassifierModel(**copies, pooling=self.pooling)

    def assign(self, other: ClassifierModel) -> None:
        """Copy the values of another model of the same shapes into these arrays."""
        for name, array in self.arrays.items():
            array[:] = other.arrays[name]

    def divide_head(self, divisor: float) -> None:
        """Divide weight and bias, and with them all logits, by a number."""
        self.weight /= np.float32(divisor)
        self.bias /= np.float32(divisor)


def _for_kernels(array: np.ndarray) -> np.ndarray:
    """Return an array of the type that the kernels are compiled for.

    A mapped array is marked as read-only, which is another type for Numba. Its base is not.
    """
    if array.flags.writeable or array.base is None:
        return array
    return array.base.reshape(array.shape)


def _check_rows(rows: Ragged, vocab_size: int) -> None:
    """The kernels read whatever memory an id or a boundary leads to."""
    ids, boundaries = rows.token_ids, rows.cu_seqlens
    for name, array in (("token_ids", ids), ("cu_seqlens", boundaries)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"{name}: expected a 1-D array of integers, got {array.dtype} of shape "
                f"{array.shape}"
            )
    if (
        len(boundaries) == 0
        or boundaries[0] != 0
        or boundaries[-1] != len(ids)
        or not (boundaries[:-1] <= boundaries[1:]).all()
    ):
        raise ValueError(f"cu_seqlens: expected ascending integers from 0 to {len(ids)}, "
                         "the number of token_ids")  # fmt: skip
    if len(ids):
        for extreme in (int(ids.min()), int(ids.max())):
            if not 0 <= extreme < vocab_size:
                raise ValueError(f"token_ids: expected ids from 0 to {vocab_size - 1}, "
                                 f"got {extreme}")  # fmt: skip
