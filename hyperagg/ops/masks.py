"""Which tokens an output sums.

A mask is a small frozen value: it says what is summed, never how. What each one means in numbers
stands in `hyperagg.ops.reference`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Causal", "Documents", "Full", "Mask", "Prefix", "Window"]


@dataclass(frozen=True)
class Mask:
    """Base of all masks. `pooled` tells whether the output has one place or N."""

    pooled = False


@dataclass(frozen=True)
class Full(Mask):
    """Every token of the sequence, summed into one output place: (B, N, D) -> (B, 1, D)."""

    pooled = True


@dataclass(frozen=True)
class Causal(Mask):
    """Place i sums the tokens t <= i: (B, N, D) -> (B, N, D)."""


@dataclass(frozen=True)
class Window(Mask):
    """Place i sums exactly the `size` newest tokens, its own among them: i - size < t <= i."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Window(size={self.size}): a window holds at least 1 token")


@dataclass(frozen=True)
class Prefix(Mask):
    """The first `size` tokens see one another; every later place i sums t <= i."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"Prefix(size={self.size}): the size cannot be negative")


@dataclass(frozen=True)
class Documents(Mask):
    """Documents packed end to end in a batch of one; no sum crosses a border.

    `cu_seqlens` holds the borders, (0, n_1, n_1 + n_2, ..., N). With `causal=False` each document
    gives one output place: (1, N, D) -> (1, documents, D); with `causal=True` every place sums
    what stands before it in its own document: (1, N, D) -> (1, N, D).
    """

    cu_seqlens: tuple[int, ...]
    causal: bool = True

    def __post_init__(self) -> None:
        borders = tuple(int(border) for border in self.cu_seqlens)
        if len(borders) < 2 or borders[0] != 0 or any(b < a for a, b in zip(borders, borders[1:])):
            raise ValueError(
                f"Documents(cu_seqlens={borders}): borders start at 0 and never fall, "
                "for example (0, 5, 9) for documents of 5 and 4 tokens"
            )
        object.__setattr__(self, "cu_seqlens", borders)

    @property
    def pooled(self) -> bool:  # type: ignore[override]
        return not self.causal
