"""Runs an operation of `hyperagg.ops` over the sequences that a batch consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hyperagg.layers.batch_layout import Layout
from hyperagg.ops import Causal, State

__all__ = ["run_over_sequences"]

# Of an operation with overloads, mypy gives a partial the type of the first, which has no state.
_Operation = Callable[..., Any]


def run_over_sequences(
    operation: _Operation,
    step: _Operation,
    sums_before: Callable[..., Tensor],
    tokens: Mapping[str, Tensor | None],
    layout: Layout,
    state: State | None,
) -> tuple[Tensor, State]:
    """Return the outputs for all tokens, (B, N, ...), and the state after each sequence.

    Args:
        operation: the operation on whole sequences, such as `ops.aggregate`.
        step: the same for one token of each sequence, such as `ops.step`.
        sums_before: if each rank of a process group holds a piece of every sequence, computes the
            sums of the ranks before this one, from `tokens` and the `group`.
        tokens: the arguments of these with one entry per token, (B, N, ...), by name.
        layout: which tokens belong to the same sequence.
        state: the state after the tokens before; None for the first.

    Raises:
        ValueError: if packed documents are given a state.
    """
    present = {name: each for name, each in tokens.items() if each is not None}
    batch, n = next(iter(present.values())).shape[:2]
    if layout.documents is not None:
        if state is not None:
            raise ValueError(
                "state: packed documents start with an empty state; to continue documents, pass "
                "each one as a row of its own"
            )
        packed = {name: each.flatten(0, 1)[None] for name, each in present.items()}
        y, after = operation(**packed, mask=layout.documents, return_state=True)
        return y.view(batch, n, *y.shape[2:]), after
    if layout.process_group is not None:
        sums = sums_before(**present, group=layout.process_group)
        num_tokens = torch.full((batch,), layout.process_group.rank() * n, device=sums.device)
        state = State(sums, num_tokens)
    if n == 1 and layout.lengths is None:
        y, after = step(**{name: each[:, 0] for name, each in present.items()}, state=state)
        return y[:, None], after
    return operation(
        **present,
        mask=Causal(),
        lengths=layout.lengths,
        padding=layout.padding,
        initial_state=state,
        return_state=True,
    )
