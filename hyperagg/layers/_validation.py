"""Checks of the sizes and the token vectors that the layers take."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_sizes", "check_tokens"]


def check_tokens(name: str, x: Tensor, d_model: int) -> None:
    """Raise TypeError or ValueError unless x is (B, N, d_model) floating point."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {type(x).__name__}; expected a tensor")
    if x.ndim != 3 or x.shape[2] != d_model or not x.is_floating_point():
        raise ValueError(
            f"{name}: shape {tuple(x.shape)}, {x.dtype}; expected (B, N, D) with "
            f"D = d_model = {d_model}, floating point"
        )


def check_sizes(minimum: int = 1, **sizes: int) -> None:
    """Raise ValueError unless each size, passed by its name, is at least `minimum`."""
    for name, size in sizes.items():
        if size < minimum:
            raise ValueError(f"{name}={size}: expected an integer >= {minimum}")
