"""Associative sums: keys bound to values by outer products, and read by queries."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from hyperagg.ops import associative_plain, associative_reference, associative_registration
from hyperagg.ops._validation import (
    check_choice,
    check_documents,
    check_lengths,
    check_state,
    check_tensors,
)
from hyperagg.ops.masks import Causal, Documents
from hyperagg.ops.registration import accumulator_dtype_of
from hyperagg.ops.selection import select
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["associative", "associative_step"]

_KERNEL_DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),
    "gpu": (torch.float32, torch.bfloat16, torch.float16),
}


@overload
def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    beta: Tensor | None = ...,
    decay: Tensor | None = ...,
    mask: Causal | Documents = ...,
    lengths: Tensor | None = ...,
    padding: Padding = ...,
    initial_state: State | None = ...,
    return_state: Literal[False] = ...,
    impl: str = ...,
) -> Tensor: ...


@overload
def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    beta: Tensor | None = ...,
    decay: Tensor | None = ...,
    mask: Causal | Documents = ...,
    lengths: Tensor | None = ...,
    padding: Padding = ...,
    initial_state: State | None = ...,
    return_state: Literal[True],
    impl: str = ...,
) -> tuple[Tensor, State]: ...


def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    beta: Tensor | None = None,
    decay: Tensor | None = None,
    mask: Causal | Documents = Causal(),
    lengths: Tensor | None = None,
    padding: Padding = "right",
    initial_state: State | None = None,
    return_state: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, State]:
    """Bind each value to its key, sum the pairs up to every position, and read them by its query.

    S_t = Diag(a_t) S_{t-1} + k_t u_t^T,   o_t = S_t^T q_t

    u_t = v_t for an outer product (`beta` is None), and with the delta rule

    u_t = beta_t (v_t - (Diag(a_t) S_{t-1})^T k_t)

    a new pair first takes back what its key already returns. S is a matrix of K keys by E values
    per head; `hyperagg.ops.associative_reference` is the full definition. Nothing is rescaled: pass
    q / sqrt(K) for the scale of attention.

    Args:
        q: (B, N, H, K) queries of N tokens in H heads, floating point.
        k: (B, N, H, K) keys. With the delta rule they should have norm one: the error of a pair
            grows by |1 - beta |k|^2| per token, which should not exceed one.
        v: (B, N, H, E) values.
        beta: (B, N, H) step size of the delta rule, from 0 (the token binds nothing) over 1 (its
            key returns its value, and nothing else) to 2 (it negates what its key returned before).
            None (default) for no delta rule.
        decay: the factor in [0, 1] by which the step to each token multiplies the sum before it,
            (B, N, H) per head or (B, N, H, K) per key channel. None (default) means one.
        mask: Causal() (default), or Documents(cu_seqlens) for packed sequences.
        lengths: (B,) the number of tokens of each sequence. The rest is padding: it is never read,
            and its outputs are zero. None (default) means N.
        padding: the side of the padding, "right" (default) or "left".
        initial_state: the State of an earlier call, after which this one continues.
        return_state: whether to return (o, State) instead of o.
        impl: "auto" (default): the compiled kernel of the device in float32 and bfloat16, on GPUs
            also in float16; otherwise plain PyTorch. Or "cpu", "gpu", "plain" or "reference", which
            then runs or raises.

    Returns:
        (B, N, H, E) in the type of the inputs. With `return_state`, the pair of that and a State
        whose sums are S after the last token, (R, H, K, E).

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or value, or the arguments do
            not go together.

    Numerics: S, beta and decay are float32, or float64 for float64 inputs. Factors of exactly 0 and
        1 are exact: no logarithm is taken. The kernels compute token by token, so any split of a
        sequence gives the same bits, and so does any number of threads.
        What is not finite in a token never reaches an earlier output. From k, v, beta or decay it
        reaches the later ones of its head: in the plain form all of them, as NaN.
    Cost: O(N H K E) time, and K E numbers of state per head. The CPU kernel divides the work among
        threads by sequence and head, forward also by blocks of 32 value channels, and the GPU
        kernel by all three; it has not been timed on a GPU. Both backward passes compute the states
        again. The plain form multiplies matrices in chunks of 64 tokens; a decay per key channel
        takes it memory for 16 K numbers per token and head.
    Source: linear attention (Katharopoulos et al. 2020), with a decay per head RetNet (Sun et al.
        2023) and Mamba-2 (Dao and Gu 2024), per key channel GLA (arXiv:2312.06635). Delta rule:
        Schlag et al. (2021) and DeltaNet (Yang et al. 2024); with a decay, Gated DeltaNet
        (arXiv:2412.06464).

    >>> import torch
    >>> from hyperagg import ops
    >>> keys = torch.eye(2)[[0, 1, 0]].view(1, 3, 1, 2)
    >>> values = torch.tensor([1.0, 2.0, 5.0]).view(1, 3, 1, 1)
    >>> queries = torch.eye(2)[[0, 0, 0]].view(1, 3, 1, 2)
    >>> ops.associative(queries, keys, values).flatten().tolist()
    [1.0, 1.0, 6.0]
    >>> ops.associative(queries, keys, values, beta=torch.ones(1, 3, 1)).flatten().tolist()
    [1.0, 1.0, 5.0]
    """
    _check_arguments(q, k, v, beta, decay, mask, lengths, padding, initial_state)
    selected = select("q", q, impl, _KERNEL_DTYPES).implementation
    if selected in _KERNEL_DTYPES:
        o, state = _run_kernel(q, k, v, beta, decay, mask, lengths, padding, initial_state)
    else:
        module = associative_plain if selected == "plain" else associative_reference
        o, state = module.associative(
            q, k, v, beta, decay, mask, lengths, padding=padding, state=initial_state
        )
    return (o, state) if return_state else o


def associative_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: State | None = None,
    *,
    beta: Tensor | None = None,
    decay: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Bind and read one more token of every sequence, from one state to the next.

    A loop of steps gives the same outputs as one call of `associative`, which has the formulas.

    Args:
        q: (B, H, K) queries, floating point.
        k: (B, H, K) keys.
        v: (B, H, E) values.
        state: the state after the tokens before, from `associative(..., return_state=True)` or the
            last step. None for the first token.
        beta: (B, H), or None for no delta rule.
        decay: (B, H) or (B, H, K), or None.

    Returns:
        (B, H, E) in the type of the inputs, and the next state.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or value.

    Numerics: float32, or float64 for float64 inputs.
    Cost: O(B H K E), in a few PyTorch operations without a kernel call.

    >>> import torch
    >>> from hyperagg import ops
    >>> key, beta = torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
    >>> o, state = ops.associative_step(key, key, torch.tensor([[[3.0]]]), beta=beta)
    >>> o, state = ops.associative_step(key, key, torch.tensor([[[4.0]]]), state, beta=beta)
    >>> o.tolist(), state.num_tokens.tolist()
    ([[[4.0]]], [2])
    """
    _check_tensors(q, k, v, beta, decay, ("B", "H"))
    if state is not None:
        check_state("state", state, (*q.shape, v.shape[2]))
    dtype = accumulator_dtype_of(q.dtype)
    query, key, value = (each.to(dtype) for each in (q, k, v))
    if state is None:
        sums, num_tokens = None, torch.ones(len(q), dtype=torch.int64, device=q.device)
    else:
        sums, num_tokens = state.sums.to(dtype), state.num_tokens + 1
        if decay is not None:
            sums = sums * (decay if decay.ndim == 3 else decay[..., None]).to(dtype)[..., None]
    if beta is not None:
        returned = 0 if sums is None else (sums * key[..., None]).sum(-2)
        value = beta.to(dtype)[..., None] * (value - returned)
    pair = key[..., None] * value[..., None, :]
    sums = pair if sums is None else sums + pair
    return (sums * query[..., None]).sum(-2).to(v.dtype), State(sums, num_tokens)


def _check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    mask: Causal | Documents,
    lengths: Tensor | None,
    padding: str,
    state: State | None,
) -> None:
    """Check the arguments of `associative`, each alone and all together."""
    check_choice("padding", padding, ("right", "left"))
    _check_tensors(q, k, v, beta, decay, ("B", "N", "H"))
    if not isinstance(mask, Causal | Documents) or mask.pooled:
        shown = mask.__name__ if isinstance(mask, type) else repr(mask)
        raise (ValueError if isinstance(mask, Documents) else TypeError)(
            f"mask={shown}: expected Causal(), or Documents(cu_seqlens) with causal=True"
        )
    if lengths is not None:
        check_lengths(lengths, *q.shape[:2])
    rows = q.shape[0]
    if isinstance(mask, Documents):
        check_documents(mask, "q", q, "H, K", lengths)
        rows = mask.num_documents
    if state is not None:
        check_state("initial_state", state, (rows, *q.shape[2:], v.shape[3]))


def _check_tensors(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    axes: tuple[str, ...],
) -> None:
    """Check the tensors of tokens; `axes` are the names of all dimensions but the last of q."""
    required, optional = {"q": q, "k": k, "v": v}, {"beta": beta, "decay": decay}
    for name, tensor in check_tensors(required, optional).items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: {tensor.dtype}; expected a real floating-point type")
        if tensor.device != q.device:
            raise ValueError(f"{name}: on {tensor.device}; expected {q.device}, the device of q")
        if name in required and tensor.dtype != q.dtype:
            raise TypeError(f"{name}: {tensor.dtype}; expected {q.dtype}, the type of q")
    if q.ndim != len(axes) + 1:
        raise ValueError(f"q: shape {tuple(q.shape)}; expected ({', '.join(axes)}, K)")
    tokens = q.shape[:-1]
    if k.shape != q.shape:
        raise ValueError(f"k: shape {tuple(k.shape)}; expected {tuple(q.shape)}, the shape of q")
    if v.ndim != q.ndim or v.shape[:-1] != tokens:
        raise ValueError(
            f"v: shape {tuple(v.shape)}; expected ({', '.join(map(str, tokens))}, E), as q"
        )
    if beta is not None and beta.shape != tokens:
        raise ValueError(f"beta: shape {tuple(beta.shape)}; expected {tuple(tokens)}")
    if decay is not None and decay.shape != tokens and decay.shape != q.shape:
        raise ValueError(
            f"decay: shape {tuple(decay.shape)}; expected {tuple(tokens)}, a factor per head, or "
            f"{tuple(q.shape)}, a factor per key channel"
        )


def _run_kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    mask: Causal | Documents,
    lengths: Tensor | None,
    padding: Padding,
    state: State | None,
) -> tuple[Tensor, State]:
    batch, n, heads, keys = q.shape
    rows = find_rows(mask, q, lengths, padding)
    dtype = accumulator_dtype_of(q.dtype)
    if decay is not None:
        decay = decay.to(dtype).reshape(batch * n, heads, 1 if decay.ndim == 3 else keys)
    o, sums = associative_registration.associative(
        *(each.flatten(0, 1).contiguous() for each in (q, k, v)),
        None if beta is None else beta.to(dtype).flatten(0, 1).contiguous(),
        None if decay is None else decay.contiguous(),
        None if state is None else state.sums.to(dtype).contiguous(),
        rows.starts,
        rows.lengths,
    )
    num_tokens = rows.lengths if state is None else rows.lengths + state.num_tokens
    return o.view(batch, n, heads, v.shape[3]), State(sums, num_tokens)
