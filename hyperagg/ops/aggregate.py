"""The public sums of token vectors: checks, then picks an implementation.

y_i  =  sum_t  w_it  (prod_{t < s <= i} a_s)  x_t * p_t  /  n_i^power
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, overload

import torch
from torch import Tensor

from hyperagg.ops import fixed_point as fixed
from hyperagg.ops import plain, reference, registration
from hyperagg.ops._validation import POWERS, Normalize, check
from hyperagg.ops.masks import Documents, Full, Mask, Prefix, Window
from hyperagg.ops.state import Padding, Rows, State, find_rows

__all__ = ["Selection", "aggregate", "select_implementation"]

_IMPLEMENTATIONS = ("auto", "cpu", "gpu", "plain", "reference")
_KERNELS = {"cpu": "cpu", "cuda": "gpu"}
_TYPES = {
    "cpu": (torch.float32, torch.float64, torch.bfloat16),
    "gpu": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
}


@dataclass(frozen=True)
class Selection:
    """Which implementation a call runs, and why."""

    implementation: str
    reason: str


@overload
def aggregate(
    x: Tensor,
    p: Tensor | None = ...,
    *,
    mask: Mask | Tensor = ...,
    lengths: Tensor | None = ...,
    padding: Padding = ...,
    decay: Tensor | None = ...,
    gate: Tensor | None = ...,
    normalize: Normalize = ...,
    initial_state: State | None = ...,
    return_state: Literal[False] = ...,
    accumulate: Literal["float", "fixed_point"] = ...,
    impl: str = ...,
) -> Tensor: ...


@overload
def aggregate(
    x: Tensor,
    p: Tensor | None = ...,
    *,
    mask: Mask | Tensor = ...,
    lengths: Tensor | None = ...,
    padding: Padding = ...,
    decay: Tensor | None = ...,
    gate: Tensor | None = ...,
    normalize: Normalize = ...,
    initial_state: State | None = ...,
    return_state: Literal[True],
    accumulate: Literal["float", "fixed_point"] = ...,
    impl: str = ...,
) -> tuple[Tensor, State]: ...


def aggregate(
    x: Tensor,
    p: Tensor | None = None,
    *,
    mask: Mask | Tensor = Full(),
    lengths: Tensor | None = None,
    padding: Padding = "right",
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    normalize: Normalize = "none",
    initial_state: State | None = None,
    return_state: bool = False,
    accumulate: Literal["float", "fixed_point"] = "float",
    impl: str = "auto",
) -> Tensor | tuple[Tensor, State]:
    """Sum token vectors times position vectors under a mask.

    y_i = sum_t w_it (prod_{t < s <= i} a_s) x_t * p_t / n_i^b

    w_it in {0, 1} is the mask, a_s is a decay, a gate or 1, n_i = sum_t w_it, and b is 0, 1/2 or 1
    for normalize "none", "sqrt", "mean". Places are counted from a row's first token.

    Args:
        x: (B, N, D) token vectors, floating point.
        p: (P, D) position vectors, P at least the longest row; None for none.
        mask: what each output sums (`hyperagg.ops.masks`), or a dense (B, N, N) tensor of weights,
            the only form whose cost is quadratic.
        lengths: (B,) tokens of each row; the rest of a row is padding, which is never summed and
            whose outputs are zero. None: every token counts.
        padding: the side on which it stands, "right" or "left".
        decay: (D,) what each step leaves of a channel, |a| <= 1; or complex (D / 2,), which
            turns channels 2k and 2k + 1 as real and imaginary part. A pooled sum decays towards
            the last token.
        gate: (B, N, D) in [0, 1], what the step to each token leaves of the sum before it.
        normalize: divide each sum by 1, the root of the number of its tokens, or the number. A
            dense mask's weights are taken as they are and summed for n_i.
        initial_state: what an earlier call returned; this one goes on from there. p is then the
            positions of these tokens.
        return_state: return (y, State) to go on from.
        accumulate: "fixed_point" sums whole numbers of 2^-32, exactly: the result does not depend on
            order, threads, batching or sharding, and states can be added and subtracted. No
            gradients, no decay or gate; a sum out of range (about 2^30) raises.
        impl: "auto", or the name of an implementation, which then runs or raises.

    Returns:
        (B, 1, D) for a pooled mask, (B, N, D) for the others, (1, documents, D) for pooled
        documents; the type of x. With return_state, the pair of that and a State.

    Raises:
        ValueError, TypeError: a shape, a type, a name or a combination that does not fit.

    Numerics: sums in float32 or better, whatever the type of x: the CPU kernels sum in float64, a
        plain sum of float32 or bfloat16 within 256 tokens in float32. A sum of n terms of mixed
        sign grows as sqrt(n); windows are re-summed, so nothing cancels.
    Cost: O(n d) time and memory; O(n^2 d) with a dense mask. The CPU kernels read x once (twice
        for windows and for fewer than 8 rows) and make nothing else of its size.
    Source: the source document's `Aggregation` (core mechanics), whose masked product this
        replaces by a scan.
    """
    arguments = dict(
        mask=mask,
        lengths=lengths,
        padding=padding,
        decay=decay,
        gate=gate,
        normalize=normalize,
        initial_state=initial_state,
        accumulate=accumulate,
    )
    chosen = select_implementation(x, p, **arguments, impl=impl).implementation  # type: ignore[arg-type]
    if isinstance(mask, Tensor) and return_state:
        raise ValueError("return_state: a dense mask leaves no state")
    if isinstance(mask, Prefix) and return_state:
        raise ValueError("return_state: a prefix sees its tokens at once; use Causal to go on")
    if isinstance(mask, Window) and gate is not None and return_state:
        raise ValueError("return_state: a window with a gate keeps none; use Causal or a decay")
    power = POWERS[normalize]
    more = dict(decay=decay, gate=gate, state=initial_state, padding=padding)
    state: State | None
    if accumulate == "fixed_point":
        y, state = fixed.aggregate(x, p, mask, lengths, power, initial_state, padding)
    elif chosen == "reference":
        y, state = reference.aggregate(x, p, mask, lengths, power, **more)  # type: ignore[arg-type]
    elif isinstance(mask, Tensor):
        return plain.dense(x, p, mask, lengths, power, padding)
    elif chosen == "plain":
        y, state = plain.aggregate(x, p, mask, lengths, power, **more)  # type: ignore[arg-type]
    else:
        y, state = _by_kernel(
            x, p, mask, lengths, power, decay, gate, initial_state, padding, return_state
        )
    if return_state:
        assert state is not None
        return y, state
    return y


def select_implementation(
    x: Tensor,
    p: Tensor | None = None,
    *,
    mask: Mask | Tensor = Full(),
    lengths: Tensor | None = None,
    padding: Padding = "right",
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    normalize: Normalize = "none",
    initial_state: State | None = None,
    accumulate: Literal["float", "fixed_point"] = "float",
    impl: str = "auto",
) -> Selection:
    """Which implementation `aggregate` runs for these arguments, and why; the same checks."""
    check(x, p, mask, lengths, padding, decay, gate, normalize, initial_state)
    if impl not in _IMPLEMENTATIONS:
        raise ValueError(f"impl={impl!r}: there are {', '.join(_IMPLEMENTATIONS)}")
    if accumulate not in ("float", "fixed_point"):
        raise ValueError(f"accumulate={accumulate!r}: there are float, fixed")
    if accumulate == "fixed_point":
        fixed.check(x, p, mask, decay, gate)
        if impl not in ("auto", "plain"):
            raise ValueError(f"impl={impl!r}: fixed-point sums are plain")
        return Selection("plain", "fixed-point sums are whole numbers in plain PyTorch")
    kernel = _KERNELS.get(x.device.type)
    obstacle = _obstacle(x, kernel, mask, decay, gate)
    if impl in _TYPES and impl != kernel:
        raise ValueError(f"impl={impl!r}: x is on {x.device}")
    if impl in _TYPES and obstacle:
        raise ValueError(f"impl={impl!r}: {obstacle}")
    if impl != "auto":
        return Selection(impl, "asked for by name")
    if kernel is None or obstacle:
        return Selection("plain", obstacle or f"no kernel is registered for {x.device.type}")
    return Selection(kernel, f"a compiled kernel for {_name(mask)} in {x.dtype}")


def _obstacle(
    x: Tensor, kernel: str | None, mask: Mask | Tensor, decay: Tensor | None, gate: Tensor | None
) -> str | None:
    """Why the kernels of that name cannot do it; None if they can."""
    if isinstance(mask, Tensor):
        return "a dense mask is a matrix product"
    if isinstance(mask, Window) and (decay is not None or gate is not None):
        return "the window kernel knows no decay and no gate"
    if kernel and x.dtype not in _TYPES[kernel]:
        return f"there is no kernel for {x.dtype}"
    if kernel == "gpu" and find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    return None


def _by_kernel(
    x: Tensor,
    p: Tensor | None,
    mask: Mask,
    lengths: Tensor | None,
    power: float,
    decay: Tensor | None,
    gate: Tensor | None,
    state: State | None,
    padding: Padding,
    return_state: bool,
) -> tuple[Tensor, State | None]:
    batch, n, d = x.shape
    wide = registration.accumulator_dtype(x.dtype)
    rows = find_rows(mask, x, lengths, padding)
    before = None if state is None else state.num_tokens
    seen = rows.lengths if before is None else rows.lengths + before
    if p is not None:
        p = p.to(wide).contiguous()
    if isinstance(mask, Window):
        return _window(x, p, mask, rows, power, state, seen, return_state)
    if decay is not None and decay.is_complex():
        decay = torch.view_as_real(decay)
    y, carried = registration.scan(
        x.reshape(batch * n, d).contiguous(),
        p,
        None if decay is None else decay.to(wide).contiguous(),
        None if gate is None else gate.to(x.dtype).reshape(batch * n, d).contiguous(),
        None if state is None else state.sums.to(wide).contiguous(),
        before,
        rows.starts,
        rows.lengths,
        power,
        mask.pooled,
    )
    after = State(carried, seen)
    if isinstance(mask, Prefix):
        y = y.index_select(0, _seen_until(mask, rows, batch, n))
    if not mask.pooled:
        return y.view(batch, n, d), after
    if power:
        carried = carried / seen.clamp(min=1).to(wide)[:, None] ** power
    carried = carried.to(x.dtype)
    return (carried[None] if isinstance(mask, Documents) else carried[:, None]), after


def _seen_until(mask: Prefix, rows: Rows, batch: int, n: int) -> Tensor:
    """(B N,) the token up to which each token sees: itself, in the prefix the last of that."""
    token = torch.arange(batch * n, device=rows.starts.device)
    start, length = (each.repeat_interleave(n) for each in (rows.starts, rows.lengths))
    end = start + length.clamp(max=mask.size) - 1
    return torch.where((token >= start) & (token < end), end, token)


def _window(
    x: Tensor,
    p: Tensor | None,
    mask: Window,
    rows: Rows,
    power: float,
    state: State | None,
    seen: Tensor,
    return_state: bool,
) -> tuple[Tensor, State | None]:
    batch, n, d = x.shape
    starts, lengths = rows
    kept = mask.size - 1
    if state is None:
        tokens = x.reshape(batch * n, d).contiguous()
        y = registration.window(tokens, p, None, starts, lengths, mask.size, power)
        y = y.view(batch, n, d)
    else:
        # The tokens of the state stand in front of these, as products already.
        terms = x.to(state.sums.dtype) * (1 if p is None else p[:n])
        joined = torch.cat([state.sums, terms], 1).flatten(0, 1)
        begin = torch.arange(batch, device=x.device) * (kept + n)
        starts, lengths, before = begin, lengths + kept, state.num_tokens - kept
        y = registration.window(joined, None, before, starts, lengths, mask.size, power)
        y = y.view(batch, kept + n, d)[:, kept:].to(x.dtype)
        tokens, p = joined, None
    if not return_state:
        return y, None
    return y, State(_newest(tokens, p, starts, lengths, kept), seen)


def _newest(
    tokens: Tensor, p: Tensor | None, starts: Tensor, lengths: Tensor, number: int
) -> Tensor:
    """(R, number, D) products of the last tokens of each row, zeros where there are too few."""
    place = lengths[:, None] + torch.arange(-number, 0, device=tokens.device)
    wide = registration.accumulator_dtype(tokens.dtype)
    if not len(tokens):
        return tokens.new_zeros(*place.shape, tokens.shape[1], dtype=wide)
    newest = tokens[(starts[:, None] + place).clamp(0, len(tokens) - 1)].to(wide)
    if p is not None:
        newest = newest * p[place.clamp(0, len(p) - 1)]
    return newest.masked_fill(place[..., None] < 0, 0)


def _name(mask: Mask | Tensor) -> str:
    return "a dense mask" if isinstance(mask, Tensor) else type(mask).__name__
