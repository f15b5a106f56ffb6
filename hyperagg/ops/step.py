"""One token more: the sums that need no kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops._validation import POWERS, Normalize, check
from hyperagg.ops.aggregate import aggregate
from hyperagg.ops.masks import Causal, Full, Mask
from hyperagg.ops.registration import accumulator_dtype
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
    """One token of every row: `aggregate` of (B, D) tokens, from a state to the next.

    Args:
        x: (B, D).
        p: (D,) the position vector of this token, the same for all rows, or None.
        state: of the tokens before, from `aggregate(..., return_state=True)` or the last step.
        mask: Causal() or Window(w); Full() is the running total.
        decay, normalize: as for `aggregate`. gate: (B, D).

    Returns:
        (B, D) and the next state. Cost: O(d), of a window O(w d). A running sum is a handful of
        operations of PyTorch, since calling a kernel would take longer than what it computes.
    """
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
    check(tokens, positions, mask, None, "right", decay, gates, normalize, state)
    wide = accumulator_dtype(x.dtype)
    carried = x.to(wide) if p is None else x.to(wide) * p
    seen = torch.ones(len(x), dtype=torch.int64, device=x.device)
    if state is not None:
        before, seen = state.sums.to(wide), state.num_tokens + 1
        if decay is not None and decay.is_complex():
            turned = torch.view_as_complex(before.unflatten(1, (-1, 2))) * decay
            before = torch.view_as_real(turned).flatten(1)
        elif decay is not None:
            before = before * decay
        elif gate is not None:
            before = before * gate
        carried = carried + before
    power = POWERS[normalize]
    y = carried / seen.to(wide)[:, None] ** power if power else carried
    return y.to(x.dtype), State(carried.to(wide), seen)
