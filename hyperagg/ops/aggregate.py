"""The public aggregation: checks the arguments and runs the implementation that fits them."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from hyperagg.ops import fixed_point, plain, reference, registration
from hyperagg.ops._validation import NORM_EXPONENTS, Normalize, check_arguments, check_choice
from hyperagg.ops.masks import Documents, Full, Mask, Prefix, Window
from hyperagg.ops.registration import accumulator_dtype_of
from hyperagg.ops.selection import Selection, select
from hyperagg.ops.state import Padding, Rows, State, find_rows

__all__ = ["aggregate", "select_implementation"]

_KERNEL_DTYPES = {
    "cpu": (torch.float32, torch.float64, torch.bfloat16),
    "gpu": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
}


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

    y_i = n_i^-b sum_t w_it (prod_{t < s <= i} a_s) x_t * p_t

    w_it is one where the mask has output i sum token t, otherwise zero; a_s is a decay, a gate or
    one; n_i = sum_t w_it; b is 0, 1/2 or 1 for normalize "none", "sqrt" or "mean". Positions count
    from the first token of a sequence. `hyperagg.ops.reference` is the full definition.

    Args:
        x: (B, N, D) token vectors, floating point.
        p: (P, D) position vectors, P at least the length of the longest sequence; None (default)
            means one.
        mask: which tokens each output sums: Full() (default), Causal(), Window(size),
            Prefix(size) or Documents(cu_seqlens). Or a dense mask, a (B, N, N) tensor of weights:
            the only form whose cost is quadratic.
        lengths: (B,) the number of tokens of each sequence. The rest is padding: it is never
            summed, and its outputs are zero. None (default) means N.
        padding: the side of the padding, "right" (default) or "left".
        decay: (D,) constant factors by which each step multiplies the sum before it, |a| <= 1. Or
            (D / 2,) complex factors, for channels 2k and 2k + 1 as real and imaginary part. A
            pooled sum decays towards the last token.
        gate: (B, N, D) in [0, 1], the factor by which the step to each token multiplies the sum
            before it.
        normalize: divide each sum by one ("none", default), by the square root of the number of
            its tokens ("sqrt") or by that number ("mean"). A dense mask is not rescaled; n_i is
            the sum of its weights.
        initial_state: the State of an earlier call, after which this one continues. p then holds
            the positions of the new tokens.
        return_state: whether to return (y, State) instead of y.
        accumulate: "float" (default), or "fixed_point": exact sums of integer multiples of 2^-32.
            The result is independent of order, threads, batching and sharding, and states can be
            added and subtracted. It supports no gradient, decay or gate; sums beyond about 2^30
            are refused.
        impl: "auto" (default), or one of "cpu", "gpu", "plain" and "reference", which then runs or
            raises. See `select_implementation`.

    Returns:
        (B, 1, D) for Full(), (1, num_documents, D) for pooled documents, otherwise (B, N, D), in
        the type of x. With `return_state`, the pair of that and a State.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or value, or the arguments do
            not go together.

    Numerics: sums in float32 or better, whatever the type of x. The CPU kernels sum in float64; a
        sum without decay of float32 or bfloat16 runs in float32 within each 256 tokens. The
        rounding error of n terms of mixed sign grows as sqrt(n). Windows are summed afresh in
        blocks, so nothing cancels. Repeated calls give the same bits for any number of threads.
    Cost: O(n d) time and memory, O(n^2 d) for a dense mask. The CPU kernels read x once, or twice
        for windows and for fewer than 8 sequences, and make no other tensor of its size.
    Source: `Aggregation` of Ekin (2025), core mechanics, as a scan instead of a masked matrix
        product. Complex decays: LRU (Orvieto et al. 2023). Gates: QRNN (Bradbury et al. 2016) and
        HGRN (Qin et al. 2023).

    >>> import torch
    >>> from hyperagg import ops
    >>> x = torch.tensor([[[1.0], [2.0], [3.0]]])
    >>> ops.aggregate(x).tolist()
    [[[6.0]]]
    >>> ops.aggregate(x, mask=ops.Window(2), normalize="mean").tolist()
    [[[1.0], [1.5], [2.5]]]
    >>> y, state = ops.aggregate(x, mask=ops.Causal(), return_state=True)
    >>> ops.aggregate(x, mask=ops.Causal(), initial_state=state).tolist()
    [[[7.0], [9.0], [12.0]]]
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
    selected = select_implementation(x, p, **arguments, impl=impl).implementation  # type: ignore[arg-type]
    if return_state:
        _check_returns_state(mask, gate)
    norm_exponent = NORM_EXPONENTS[normalize]
    more = dict(decay=decay, gate=gate, state=initial_state, padding=padding)
    state: State | None
    if accumulate == "fixed_point":
        y, state = fixed_point.aggregate(x, p, mask, lengths, norm_exponent, initial_state, padding)
    elif selected == "reference":
        y, state = reference.aggregate(x, p, mask, lengths, norm_exponent, **more)  # type: ignore[arg-type]
    elif isinstance(mask, Tensor):
        return plain.aggregate_dense(x, p, mask, lengths, norm_exponent, padding)
    elif selected == "plain":
        y, state = plain.aggregate(x, p, mask, lengths, norm_exponent, **more)  # type: ignore[arg-type]
    else:
        y, state = _run_kernel(
            x, p, mask, lengths, norm_exponent, decay, gate, initial_state, padding, return_state
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
    """Return which implementation `aggregate` runs for these arguments, and why.

    "cpu" and "gpu" are the compiled kernels, "plain" is PyTorch code in O(n d) for everything that
    they do not support, such as forward-mode derivatives and the gradients of `torch.func`, and
    "reference" is the definition, in O(n^2 d). "auto" selects the kernel
    of the device where it supports the mask and the type, otherwise "plain".

    Args:
        x, p, mask, lengths, padding, decay, gate, normalize, initial_state, accumulate, impl: the
            arguments of `aggregate`, which are checked in the same way.

    Raises:
        ValueError, TypeError: `aggregate` would raise it; an implementation that is requested by
            name does not support the arguments.

    >>> import torch
    >>> from hyperagg import ops
    >>> ops.select_implementation(torch.ones(1, 3, 2, dtype=torch.float16))
    Selection(implementation='plain', reason='the cpu kernels do not support torch.float16')
    """
    check_arguments(x, p, mask, lengths, padding, decay, gate, normalize, initial_state)
    check_choice("accumulate", accumulate, ("float", "fixed_point"))
    if accumulate == "fixed_point":
        fixed_point.check_supported(x, p, mask, decay, gate)
        if impl not in ("auto", "plain"):
            raise ValueError(
                f"impl={impl!r}: expected 'auto' or 'plain' with accumulate='fixed_point'"
            )
        return Selection("plain", "fixed-point sums run in plain PyTorch")
    return select("x", x, impl, _KERNEL_DTYPES, _find_obstacle(mask, decay, gate))


def _find_obstacle(mask: Mask | Tensor, decay: Tensor | None, gate: Tensor | None) -> str | None:
    """Return why no kernel supports these arguments, or None."""
    if isinstance(mask, Tensor):
        return "a dense mask is a matrix product"
    if isinstance(mask, Window) and (decay is not None or gate is not None):
        return "the window kernels support neither decay nor gate"
    return None


def _check_returns_state(mask: Mask | Tensor, gate: Tensor | None) -> None:
    if isinstance(mask, Tensor):
        raise ValueError("return_state: expected False, since a dense mask has no state")
    if isinstance(mask, Prefix):
        raise ValueError(
            "return_state: expected False, since Prefix has no state; use Causal() to continue"
        )
    if isinstance(mask, Window) and gate is not None:
        raise ValueError("return_state: expected False, since a window with a gate has no state")


def _run_kernel(
    x: Tensor,
    p: Tensor | None,
    mask: Mask,
    lengths: Tensor | None,
    norm_exponent: float,
    decay: Tensor | None,
    gate: Tensor | None,
    state: State | None,
    padding: Padding,
    return_state: bool,
) -> tuple[Tensor, State | None]:
    batch, n, d = x.shape
    accumulator_dtype = accumulator_dtype_of(x.dtype)
    rows = find_rows(mask, x, lengths, padding)
    tokens_before = None if state is None else state.num_tokens
    num_tokens = rows.lengths if tokens_before is None else rows.lengths + tokens_before
    if p is not None:
        p = p.to(accumulator_dtype).contiguous()
    if isinstance(mask, Window):
        return _run_window(x, p, mask, rows, norm_exponent, state, num_tokens, return_state)
    if decay is not None and decay.is_complex():
        decay = torch.view_as_real(decay.resolve_conj())
    y, sums = registration.scan(
        x.reshape(batch * n, d).contiguous(),
        p,
        None if decay is None else decay.to(accumulator_dtype).contiguous(),
        None if gate is None else gate.to(x.dtype).reshape(batch * n, d).contiguous(),
        None if state is None else state.sums.to(accumulator_dtype).contiguous(),
        tokens_before,
        rows.starts,
        rows.lengths,
        norm_exponent,
        mask.pooled,
    )
    after = State(sums, num_tokens)
    if isinstance(mask, Prefix):
        y = y.index_select(0, _last_visible(mask, rows, batch, n))
    if not mask.pooled:
        return y.view(batch, n, d), after
    if norm_exponent:
        sums = sums / num_tokens.clamp(min=1).to(accumulator_dtype)[:, None] ** norm_exponent
    sums = sums.to(x.dtype)
    return (sums[None] if isinstance(mask, Documents) else sums[:, None]), after


def _last_visible(mask: Prefix, rows: Rows, batch: int, n: int) -> Tensor:
    """(B N,) the last token that each output sums: in the prefix its end, otherwise itself."""
    token = torch.arange(batch * n, device=rows.starts.device)
    start, length = (field.repeat_interleave(n) for field in rows)
    prefix_end = start + length.clamp(max=mask.size) - 1
    return torch.where((token >= start) & (token < prefix_end), prefix_end, token)


def _run_window(
    x: Tensor,
    p: Tensor | None,
    mask: Window,
    rows: Rows,
    norm_exponent: float,
    state: State | None,
    num_tokens: Tensor,
    return_state: bool,
) -> tuple[Tensor, State | None]:
    batch, n, d = x.shape
    starts, lengths = rows
    num_kept = mask.size - 1
    if state is None:
        tokens = x.reshape(batch * n, d).contiguous()
        y = registration.window(tokens, p, None, starts, lengths, mask.size, norm_exponent)
        y = y.view(batch, n, d)
    else:
        # The terms of the state precede the new tokens; they are products already.
        terms = x.to(state.sums.dtype) * (1 if p is None else p[:n])
        joined = torch.cat([state.sums, terms], 1).flatten(0, 1)
        starts = torch.arange(batch, device=x.device) * (num_kept + n)
        lengths, tokens_before = lengths + num_kept, state.num_tokens - num_kept
        y = registration.window(
            joined, None, tokens_before, starts, lengths, mask.size, norm_exponent
        )
        y = y.view(batch, num_kept + n, d)[:, num_kept:].to(x.dtype)
        tokens, p = joined, None
    if not return_state:
        return y, None
    return y, State(_newest_terms(tokens, p, starts, lengths, num_kept), num_tokens)


def _newest_terms(
    tokens: Tensor, p: Tensor | None, starts: Tensor, lengths: Tensor, count: int
) -> Tensor:
    """(R, count, D) terms x_t * p_t of the last tokens of each row, zeros where it is shorter."""
    position = lengths[:, None] + torch.arange(-count, 0, device=tokens.device)
    accumulator_dtype = accumulator_dtype_of(tokens.dtype)
    if not len(tokens):
        return tokens.new_zeros(*position.shape, tokens.shape[1], dtype=accumulator_dtype)
    token = (starts[:, None] + position).clamp(0, len(tokens) - 1)
    terms = tokens[token].to(accumulator_dtype)
    if p is not None:
        terms = terms * p[position.clamp(0, len(p) - 1)]
    return terms.masked_fill(position[..., None] < 0, 0)
