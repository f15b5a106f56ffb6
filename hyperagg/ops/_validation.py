"""Checks of the arguments of the public operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents, Full, Mask, Prefix, Window
from hyperagg.ops.state import State

__all__ = [
    "NORM_EXPONENTS",
    "Normalize",
    "check_arguments",
    "check_choice",
    "check_documents",
    "check_lengths",
    "check_state",
    "check_tensors",
]

Normalize = Literal["none", "sqrt", "mean"]
NORM_EXPONENTS = {"none": 0.0, "sqrt": 0.5, "mean": 1.0}


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")


def check_arguments(
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
    """Check the arguments of `aggregate` and `step`, each alone and all together."""
    check_choice("normalize", normalize, tuple(NORM_EXPONENTS))
    check_choice("padding", padding, ("right", "left"))
    if not isinstance(x, Tensor):
        raise TypeError(f"x: {type(x).__name__}; expected a tensor")
    if x.ndim != 3 or not x.is_floating_point():
        raise ValueError(
            f"x: shape {tuple(x.shape)}, {x.dtype}; expected (B, N, D), floating point"
        )
    if not isinstance(mask, Full | Causal | Window | Prefix | Documents | Tensor):
        shown = mask.__name__ if isinstance(mask, type) else repr(mask)
        raise TypeError(
            f"mask={shown}: expected an instance of Full, Causal, Window, Prefix or Documents, "
            "such as Causal(), or a (B, N, N) tensor of weights"
        )
    check_strided("x", x)
    batch, n, d = x.shape
    dense = mask if isinstance(mask, Tensor) else None
    optional = {"p": p, "mask": dense, "decay": decay, "gate": gate}
    for name, tensor in check_tensors({}, optional).items():
        if tensor.is_complex() and name != "decay":
            raise TypeError(f"{name}: {tensor.dtype}; expected real numbers")
        if tensor.device != x.device:
            raise ValueError(f"{name}: on {tensor.device}; expected {x.device}, the device of x")
    if lengths is not None:
        check_lengths(lengths, batch, n)
    longest = n
    if isinstance(mask, Documents):
        check_documents(mask, "x", x, "D", lengths)
        longest = mask.max_seqlen or 0
    if p is not None and (p.ndim != 2 or p.shape[1] != d or p.shape[0] < longest):
        raise ValueError(
            f"p: shape {tuple(p.shape)}; expected (P, D) with D = {d} and P >= {longest}, the "
            "length of the longest sequence"
        )
    if decay is not None:
        _check_decay(decay, d)
    if gate is not None:
        if decay is not None:
            raise ValueError("gate: expected None with a decay; multiply the gate by the decay")
        if gate.shape != x.shape or not gate.is_floating_point():
            raise ValueError(
                f"gate: shape {tuple(gate.shape)}, {gate.dtype}; expected {tuple(x.shape)}, the "
                "shape of x, floating point"
            )
    decaying = decay is not None or gate is not None
    if isinstance(mask, Tensor):
        if tuple(mask.shape) not in {(batch, n, n), (1, n, n)}:
            raise ValueError(
                f"mask: shape {tuple(mask.shape)}; expected (B, N, N) = {(batch, n, n)}"
            )
        if decaying or state is not None:
            raise ValueError(
                "mask: a dense mask supports none of decay, gate and initial_state; expected a "
                "mask of hyperagg.ops"
            )
    if isinstance(mask, Prefix) and (decaying or state is not None):
        raise ValueError(
            "mask: Prefix supports none of decay, gate and initial_state; expected Causal()"
        )
    if state is not None:
        _check_state_of_mask(state, mask, batch, d, gate is not None, padding)


def check_tensors(
    required: Mapping[str, object], optional: Mapping[str, object]
) -> dict[str, Tensor]:
    """Check that the arguments are dense tensors, and return those that are given."""
    given = {}
    for name, value in {**required, **optional}.items():
        if value is None and name in optional:
            continue
        if not isinstance(value, Tensor):
            expected = "a tensor" if name in required else "a tensor or None"
            raise TypeError(f"{name}: {type(value).__name__}; expected {expected}")
        check_strided(name, value)
        given[name] = value
    return given


def check_strided(name: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: {tensor.layout}; expected a dense tensor")


def check_lengths(lengths: Tensor, batch: int, n: int) -> None:
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int32, torch.int64):
        kind = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"lengths: {kind}; expected an int32 or int64 tensor")
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"lengths: shape {tuple(lengths.shape)}; expected (B,) = ({batch},)")
    if batch and not torch.compiler.is_compiling() and not 0 <= lengths.min() <= lengths.max() <= n:
        raise ValueError(
            f"lengths: from {int(lengths.min())} to {int(lengths.max())}; expected 0 to N = {n}"
        )


def check_documents(
    mask: Documents, name: str, x: Tensor, channels: str, lengths: Tensor | None
) -> None:
    """Check packed tokens x (1, N, ...); `name` and `channels` are what an error calls them."""
    if mask.cu_seqlens.device != x.device:
        raise ValueError(
            f"mask: on {mask.cu_seqlens.device}; expected {x.device}, the device of {name}; move "
            f"it with mask.to({name}.device)"
        )
    if lengths is not None:
        raise ValueError("lengths: expected None with Documents, which has its own lengths")
    total = x.shape[1] if mask.boundaries is None else mask.boundaries[-1]
    if x.shape[0] != 1 or x.shape[1] != total:
        raise ValueError(
            f"{name}: shape {tuple(x.shape)}; expected (1, {total}, {channels}) with mask={mask}"
        )


def _check_decay(decay: Tensor, d: int) -> None:
    if not (decay.is_complex() or decay.is_floating_point()):
        raise TypeError(f"decay: {decay.dtype}; expected a real or complex floating-point type")
    expected = (d // 2,) if decay.is_complex() else (d,)
    if tuple(decay.shape) != expected or (decay.is_complex() and d % 2):
        raise ValueError(
            f"decay: shape {tuple(decay.shape)}, {decay.dtype}; expected ({d},) real numbers"
            + (f" or ({d // 2},) complex ones" if d % 2 == 0 else "")
        )


def _check_state_of_mask(
    state: State, mask: Mask | Tensor, batch: int, d: int, gated: bool, padding: str
) -> None:
    rows = mask.num_documents if isinstance(mask, Documents) else batch
    if not isinstance(mask, Window):
        check_state("initial_state", state, (rows, d))
        return
    if gated or padding == "left":
        raise ValueError(
            "initial_state: a window continues only without a gate and with padding='right'"
        )
    check_state("initial_state", state, (rows, mask.size - 1, d))


def check_state(name: str, state: State, shape: tuple[int, ...]) -> None:
    """Check a state; `shape` is that of its sums, the rows first."""
    if not isinstance(state, State):
        raise TypeError(
            f"{name}: {type(state).__name__}; expected a State, the result of a call with "
            "return_state=True or of a step"
        )
    if tuple(state.sums.shape) != shape or tuple(state.num_tokens.shape) != shape[:1]:
        raise ValueError(
            f"{name}: sums {tuple(state.sums.shape)}, num_tokens "
            f"{tuple(state.num_tokens.shape)}; expected {shape} and {shape[:1]}"
        )
