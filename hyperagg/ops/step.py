"""One token at a time, without a kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops._validation import NORM_EXPONENTS, Normalize, check_arguments
from hyperagg.ops.aggregate import aggregate
from hyperagg.ops.masks import Causal, Full, Mask
from hyperagg.ops.registration import accumulator_dtype_of
from hyperagg.ops.state import State

__all__ = ["step"]


def step(
    x: Tensor,
    p: Tensor | None = None,
    state: State | None = None,
    *,
    mask: Mask = Full(),
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    normalize: Normalize = "none",
) -> tuple[Tensor, State]:
    """Aggregate one more token of every sequence, from one state to the next.

    h_t = a_t h_{t-1} + x_t * p_t,   y_t = h_t / n_t^b

    A loop of steps gives the same outputs as one call of `aggregate`.

    Args:
        x: (B, D) one token of each sequence, floating point.
        p: (D,) the position vector of this token, the same for all sequences, or None.
        state: the state after the tokens before, from `aggregate(..., return_state=True)` or the
            last step. None for the first token.
        mask: Causal() or Window(w); Full() (default) gives the same sums as Causal().
        decay: (D,) real or (D / 2,) complex factors, as in `aggregate`.
        gate: (B, D) in [0, 1], the factor by which the sum before this token is multiplied.
        normalize: "none" (default), "sqrt" or "mean", as in `aggregate`.

    Returns:
        (B, D) in the type of x, and the next state.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or value.

    Numerics: sums in float32, or in float64 where x is float64.
    Cost: O(B d), for a window of w tokens O(B w d). A running sum takes a few PyTorch operations;
        a kernel call would take longer than the arithmetic.

    >>> import torch
    >>> from hyperagg import ops
    >>> y, state = ops.step(torch.ones(1, 2))
    >>> y, state = ops.step(torch.ones(1, 2), state=state, decay=torch.tensor([1.0, 0.5]))
    >>> y.tolist()
    [[2.0, 1.5]]
    """
    if not isinstance(x, Tensor) or x.ndim != 2:
        given = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x: {given}; expected a (B, D) tensor")
    tokens, positions = x[:, None], None if p is None else p[None]
    gates = None if gate is None else gate[:, None]
    if not isinstance(mask, Causal | Full):
        y, after = aggregate(
            tokens,
            positions,
            mask=mask,
            decay=decay,
            gate=gates,
            normalize=normalize,
            initial_state=state,
            return_state=True,
        )
        return y[:, 0], after
    check_arguments(tokens, positions, mask, None, "right", decay, gates, normalize, state)
    accumulator_dtype = accumulator_dtype_of(x.dtype)
    sums = x.to(accumulator_dtype)
    if p is not None:
        sums = sums * p
    if state is None:
        num_tokens = torch.ones(len(x), dtype=torch.int64, device=x.device)
    else:
        before, num_tokens = state.sums.to(accumulator_dtype), state.num_tokens + 1
        if decay is not None and decay.is_complex():
            product = torch.view_as_complex(before.unflatten(1, (-1, 2))) * decay
            before = torch.view_as_real(product).flatten(1)
        elif decay is not None:
            before = before * decay
        elif gate is not None:
            before = before * gate
        sums = sums + before
    y, norm_exponent = sums, NORM_EXPONENTS[normalize]
    if norm_exponent:
        y = sums / num_tokens.to(accumulator_dtype)[:, None] ** norm_exponent
    return y.to(x.dtype), State(sums.to(accumulator_dtype), num_tokens)
