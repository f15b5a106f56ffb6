"""What the arguments of the public sums have to be; who errs is told which and what would do."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hyperagg.ops.masks import Documents, Mask, Prefix, Window
from hyperagg.ops.state import State

__all__ = ["POWERS", "Normalize", "check", "check_lengths"]

Normalize = Literal["none", "sqrt", "mean"]
POWERS = {"none": 0.0, "sqrt": 0.5, "mean": 1.0}


def check(
    x: Tensor,
    p: Tensor | None,
    mask: Mask | Tensor,
    lengths: Tensor | None,
    padding: str,
    decay: Tensor | None,
    gate: Tensor | None,
    normalize: str,
    state: State | None,
) -> None:
    if normalize not in POWERS:
        raise ValueError(f"normalize={normalize!r}: there are {', '.join(POWERS)}")
    if padding not in ("right", "left"):
        raise ValueError(f"padding={padding!r}: there are right, left")
    if x.ndim != 3 or not x.is_floating_point():
        raise ValueError(f"x: shape {tuple(x.shape)}, {x.dtype}; give (B, N, D), floating point")
    batch, n, d = x.shape
    if not isinstance(mask, Mask | Tensor):
        raise TypeError(f"mask: {mask!r}; give a mask of hyperagg.ops.masks or a (B, N, N) tensor")
    for name, tensor in {"p": p, "decay": decay, "gate": gate}.items():
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name}: on {tensor.device}; x is on {x.device}")
    longest = n
    if isinstance(mask, Documents):
        _check_documents(mask, x, lengths)
        longest = mask.max_seqlen or 0
    if p is not None and (p.ndim != 2 or p.shape[1] != d or p.shape[0] < longest):
        raise ValueError(
            f"p: shape {tuple(p.shape)}; give (P, D) with D = {d} and P at least {longest}, the "
            "longest row"
        )
    if lengths is not None:
        check_lengths(lengths, batch, n)
    if decay is not None:
        _check_decay(decay, d)
    if gate is not None:
        if decay is not None:
            raise ValueError("gate: goes without decay; multiply the gate by it instead")
        if gate.shape != x.shape or not gate.is_floating_point():
            raise ValueError(
                f"gate: shape {tuple(gate.shape)}, {gate.dtype}; give {tuple(x.shape)}, as x"
            )
    fading = decay is not None or gate is not None
    if isinstance(mask, Tensor):
        if tuple(mask.shape) not in {(batch, n, n), (1, n, n)}:
            raise ValueError(f"mask: shape {tuple(mask.shape)}; give (B, N, N) = {(batch, n, n)}")
        if fading or state is not None:
            raise ValueError("mask: dense weights go without decay, gate and initial_state")
    if isinstance(mask, Prefix) and (fading or state is not None):
        raise ValueError("mask: Prefix goes without decay, gate and initial_state; use Causal")
    if state is not None:
        _check_state(state, mask, batch, d, gate is not None, padding)


def _check_documents(mask: Documents, x: Tensor, lengths: Tensor | None) -> None:
    if mask.cu_seqlens.device != x.device:
        raise ValueError(
            f"mask: cu_seqlens is on {mask.cu_seqlens.device}, x on {x.device}; move the mask with "
            "mask.to(x.device)"
        )
    if lengths is not None:
        raise ValueError("lengths: expected None, since Documents has the lengths of its documents")
    total = x.shape[1] if mask.boundaries is None else mask.boundaries[-1]
    if x.shape[0] != 1 or x.shape[1] != total:
        raise ValueError(f"x: shape {tuple(x.shape)}; expected (1, {total}, D) for {mask}")


def _check_decay(decay: Tensor, d: int) -> None:
    wanted = (d // 2,) if decay.is_complex() else (d,)
    if tuple(decay.shape) != wanted or (decay.is_complex() and d % 2):
        raise ValueError(
            f"decay: shape {tuple(decay.shape)}, {decay.dtype}; give ({d},) real numbers"
            + (f" or ({d // 2},) complex ones" if d % 2 == 0 else "")
        )
    if not (decay.is_complex() or decay.is_floating_point()):
        raise TypeError(f"decay: type {decay.dtype}; give real or complex floating point")


def _check_state(
    state: State, mask: Mask | Tensor, batch: int, d: int, gated: bool, padding: str
) -> None:
    if not isinstance(state, State):
        raise TypeError(
            f"initial_state: {type(state).__name__}; give the State of a call with return_state"
        )
    rows = mask.num_documents if isinstance(mask, Documents) else batch
    wanted: tuple[int, ...] = (rows, d)
    if isinstance(mask, Window):
        wanted = (rows, mask.size - 1, d)
        if gated or padding == "left":
            raise ValueError(
                "initial_state: a window goes on from one without a gate, padded on the right"
            )
    if tuple(state.sums.shape) != wanted or tuple(state.num_tokens.shape) != (rows,):
        raise ValueError(
            f"initial_state: carries {tuple(state.sums.shape)} for {tuple(state.num_tokens.shape)} "
            f"rows; here it needs {wanted} for {(rows,)}"
        )


def check_lengths(lengths: Tensor, batch: int, n: int) -> None:
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"lengths: shape {tuple(lengths.shape)}; give (B,) = ({batch},)")
    if batch and not torch.compiler.is_compiling() and not 0 <= lengths.min() <= lengths.max() <= n:
        raise ValueError(
            f"lengths: from {int(lengths.min())} to {int(lengths.max())}; rows hold 0 to {n} tokens"
        )
