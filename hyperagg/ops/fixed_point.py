"""Exact sums: whole numbers of 2^-32, so that no order of adding differs from another."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops import plain
from hyperagg.ops.masks import Mask
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["aggregate", "check"]

_UNIT = 2.0**-32
_MAX_SUM = 2.0**62


def check(
    x: Tensor, p: Tensor | None, mask: Mask | Tensor, decay: Tensor | None, gate: Tensor | None
) -> None:
    """What fixed-point sums do not do, named."""
    if not isinstance(mask, Mask):
        raise ValueError(
            "accumulate='fixed': needs a mask of hyperagg.ops.masks, not dense weights"
        )
    if decay is not None or gate is not None:
        raise ValueError("accumulate='fixed': goes without decay and gate")
    differentiable = x.requires_grad or (p is not None and p.requires_grad)
    if torch.is_grad_enabled() and differentiable:
        raise ValueError("accumulate='fixed': has no gradient; call it under torch.no_grad()")


def aggregate(
    x: Tensor,
    p: Tensor | None,
    mask: Mask | Tensor,
    lengths: Tensor | None,
    power: float,
    state: State | None,
    padding: Padding,
) -> tuple[Tensor, State]:
    """y and the state, whose sums are int64 in units of 2^-32.

    Each product x_t * p_t is rounded to the nearest unit, once; all that follows is exact.

    Raises:
        ValueError: a product is not finite, or the sums could leave 64 bits.
    """
    assert isinstance(mask, Mask)
    place, kept = plain.places(x, find_rows(mask, x, lengths, padding).lengths, padding)
    terms = x.double()
    if p is not None:
        terms = terms * p.double()[place.clamp(0, len(p) - 1)]
    terms = (terms.masked_fill(~kept[..., None], 0) / _UNIT).round()
    greatest = float(terms.abs().sum(1).max()) if terms.numel() else 0.0
    if state is not None and state.sums.numel():
        greatest += float(state.sums.double().abs().max()) * (
            state.sums.shape[1] if state.sums.ndim == 3 else 1
        )
    if not greatest < _MAX_SUM:
        raise ValueError(
            f"x: sums reach {greatest * _UNIT:.3g}; fixed-point sums hold up to "
            f"{_MAX_SUM * _UNIT:.3g}, use accumulate='float'"
        )
    y, after = plain.aggregate(
        terms.long(), None, mask, lengths, power, state=state, padding=padding
    )
    return (y.double() * _UNIT).to(x.dtype), after
