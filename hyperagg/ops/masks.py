"""Masks: which tokens each output of an aggregation sums.

A mask is a small immutable value. It says what is summed, never how; `hyperagg.ops.reference`
defines each mask as a matrix. This module also works where PyTorch is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    torch = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Causal", "Documents", "Full", "Mask", "Prefix", "Window"]

# A longer list of boundaries is abbreviated by repr.
_MAX_SHOWN = 16


@dataclass(frozen=True)
class Mask:
    """Base class of all masks.

    `pooled` says whether a sequence (or a document) gives one output instead of N.
    """

    pooled = False


@dataclass(frozen=True)
class Full(Mask):
    """Sum all tokens of a sequence into one output: (B, N, D) -> (B, 1, D)."""

    pooled = True


@dataclass(frozen=True)
class Causal(Mask):
    """Sum the tokens t <= i at every position i: (B, N, D) -> (B, N, D)."""


@dataclass(frozen=True)
class Window(Mask):
    """Sum the `size` newest tokens at every position i, i - size < t <= i.

    Args:
        size: the number of tokens in a window, at least 1. Fewer are summed near the start.

    Raises:
        TypeError: `size` is not an integer.
        ValueError: `size` is less than 1.
    """

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _to_size(self.size, 1))


@dataclass(frozen=True)
class Prefix(Mask):
    """Sum the whole prefix at each of its positions, and the tokens t <= i after it.

    Args:
        size: the number of tokens in the prefix, at least 0.

    Raises:
        TypeError: `size` is not an integer.
        ValueError: `size` is negative.
    """

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _to_size(self.size, 0))


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Documents(Mask):
    """Sum inside the documents of a packed sequence; a sum never crosses a boundary.

    With `causal=True` every position sums the tokens up to itself in its own document,
    (1, N, D) -> (1, N, D). With `causal=False` each document gives one output,
    (1, N, D) -> (1, num_documents, D).

    The boundaries are validated and copied to the host once, when the mask is made. Make one mask
    per batch and pass it to every layer; `to` moves it to another device.

    Args:
        cu_seqlens: cumulative sequence lengths (0, n_1, n_1 + n_2, ..., N): an int32 or int64
            tensor, or a sequence or NumPy array of integers. It must not be modified afterwards.
        causal: whether every position has an output, or every document.

    Attributes:
        cu_seqlens: (num_documents + 1,) int64 tensor, on the device of the argument; a NumPy array
            where PyTorch is not installed.
        boundaries: the same numbers as a tuple. None for a mask that is made inside
            `torch.compile` or `torch.export`, where a tensor has no values to validate.
        max_seqlen: the length of the longest document, or None likewise.

    Raises:
        TypeError: `cu_seqlens` is not a one-dimensional sequence of integers, or `causal` is
            neither True nor False.
        ValueError: `cu_seqlens` has fewer than two elements, does not start at 0 or decreases.

    >>> mask = Documents([0, 5, 9])
    >>> mask, mask.max_seqlen, mask.num_documents
    (Documents(cu_seqlens=(0, 5, 9), causal=True), 5, 2)
    """

    cu_seqlens: Tensor
    causal: bool
    boundaries: tuple[int, ...] | None
    max_seqlen: int | None

    __match_args__ = ("cu_seqlens", "causal")

    def __init__(
        self, cu_seqlens: Tensor | np.ndarray | Sequence[int], causal: bool = True
    ) -> None:
        if type(causal).__name__ not in ("bool", "bool_"):  # NumPy's type
            raise TypeError(f"causal={causal!r}: expected True or False")
        tensor, boundaries = _to_tensor(cu_seqlens)
        max_seqlen = None
        if boundaries is not None:
            lengths = [b - a for a, b in zip(boundaries, boundaries[1:])]
            if not lengths or boundaries[0] != 0 or min(lengths) < 0:
                raise ValueError(
                    f"cu_seqlens={_abbreviated(boundaries)}: expected at least two integers that "
                    "start at 0 and do not decrease, such as (0, 5, 9) for documents of 5 and 4 "
                    "tokens"
                )
            max_seqlen = max(lengths)
        self._set(tensor, bool(causal), boundaries, max_seqlen)

    def _set(self, *values: Any) -> None:
        for name, value in zip(("cu_seqlens", "causal", "boundaries", "max_seqlen"), values):
            object.__setattr__(self, name, value)

    @property
    def pooled(self) -> bool:  # type: ignore[override]
        return not self.causal

    @property
    def num_documents(self) -> int:
        """The number of documents, empty ones included."""
        return self.cu_seqlens.shape[0] - 1

    def to(self, device: torch.device | str) -> Documents:
        """Return this mask with its boundaries on `device`; nothing is validated again."""
        moved = object.__new__(Documents)
        moved._set(self.cu_seqlens.to(device), self.causal, self.boundaries, self.max_seqlen)
        return moved

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Documents):
            return NotImplemented
        if self.boundaries is None or other.boundaries is None:
            return self is other
        return (self.boundaries, self.causal) == (other.boundaries, other.causal)

    def __hash__(self) -> int:
        return id(self) if self.boundaries is None else hash((self.boundaries, self.causal))

    def __repr__(self) -> str:
        shown = self.cu_seqlens if self.boundaries is None else _abbreviated(self.boundaries)
        return f"Documents(cu_seqlens={shown}, causal={self.causal})"


def _to_size(size: Any, minimum: int) -> int:
    """Return `size` as an int; NumPy integers are accepted, booleans are not."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"size={size!r}: expected an integer >= {minimum}")
    if size < minimum:
        raise ValueError(f"size={size}: expected an integer >= {minimum}")
    return int(size)


def _to_tensor(cu_seqlens: Any) -> tuple[Any, tuple[int, ...] | None]:
    """An int64 tensor, or an array without PyTorch, and its values where there are any."""
    if torch is not None and isinstance(cu_seqlens, torch.Tensor):
        if cu_seqlens.ndim != 1 or cu_seqlens.dtype not in (torch.int32, torch.int64):
            raise TypeError(
                f"cu_seqlens: shape {tuple(cu_seqlens.shape)}, {cu_seqlens.dtype}; expected a "
                "one-dimensional tensor, int32 or int64"
            )
        traced = torch.compiler.is_compiling()
        return cu_seqlens.long(), None if traced else tuple(cu_seqlens.tolist())
    array = np.asarray(cu_seqlens)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"cu_seqlens: shape {array.shape}, {array.dtype}; expected a one-dimensional sequence "
            "of integers"
        )
    array = array.astype(np.int64)
    return array if torch is None else torch.from_numpy(array), tuple(array.tolist())


def _abbreviated(boundaries: tuple[int, ...]) -> str:
    if len(boundaries) <= _MAX_SHOWN:
        return str(boundaries)
    return f"({', '.join(map(str, boundaries[:3]))}, ..., {boundaries[-1]})"
