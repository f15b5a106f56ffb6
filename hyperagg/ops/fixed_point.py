"""Exact sums in fixed point: integer multiples of 2^-32, which add up the same in every order."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops import plain
from hyperagg.ops.masks import Mask
from hyperagg.ops.state import Padding, State, find_rows
from hyperagg.ops.transforms import active_transform

__all__ = ["aggregate", "check_supported"]

_UNIT = 2.0**-32
_MAX_SUM = 2.0**62


def check_supported(
    x: Tensor, p: Tensor | None, mask: Mask | Tensor, decay: Tensor | None, gate: Tensor | None
) -> None:
    """Raise ValueError for what fixed-point sums do not support."""
    if not isinstance(mask, Mask):
        raise ValueError(
            "accumulate='fixed_point': a dense mask is not supported; expected a mask of "
            "hyperagg.ops"
        )
    if decay is not None or gate is not None:
        raise ValueError("accumulate='fixed_point': expected neither decay nor gate")
    differentiable = x.requires_grad or (p is not None and p.requires_grad)
    if (torch.is_grad_enabled() and differentiable) or active_transform():
        raise ValueError(
            "accumulate='fixed_point': gradients are not supported; call it under torch.no_grad()"
        )


def aggregate(
    x: Tensor,
    p: Tensor | None,
    mask: Mask | Tensor,
    lengths: Tensor | None,
    norm_exponent: float,
    state: State | None,
    padding: Padding,
) -> tuple[Tensor, State]:
    """Return y and the state, whose sums are int64 in units of 2^-32.

    Each product x_t * p_t is rounded to the nearest unit once; every later step is exact.

    Raises:
        ValueError: a product is not finite, or a sum may exceed 64 bits.
    """
    assert isinstance(mask, Mask)
    rows = find_rows(mask, x, lengths, padding)
    position, is_token = plain.positions_in_rows(x, rows.lengths, padding)
    terms = x.double()
    if p is not None:
        terms = terms * p.double()[position.clamp(0, len(p) - 1)]
    terms = (terms.masked_fill(~is_token[..., None], 0) / _UNIT).round()
    bound = float(terms.abs().sum(1).max()) if terms.numel() else 0.0
    if state is not None and state.sums.numel():
        num_terms = state.sums.shape[1] if state.sums.ndim == 3 else 1
        bound += float(state.sums.double().abs().max()) * num_terms
    if not bound < _MAX_SUM:
        raise ValueError(
            f"x: sums reach {bound * _UNIT:.3g}; accumulate='fixed_point' holds up to "
            f"{_MAX_SUM * _UNIT:.3g}, use accumulate='float'"
        )
    y, after = plain.aggregate(
        terms.long(), None, mask, lengths, norm_exponent, state=state, padding=padding
    )
    return (y.double() * _UNIT).to(x.dtype), after
