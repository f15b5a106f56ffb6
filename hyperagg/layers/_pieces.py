"""What a rank needs of the ranks before it where rows are cut into pieces over a process group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyperagg.layers.batch_layout import Layout

__all__ = ["check_pieces", "gather_pieces", "inputs_before"]


def check_pieces(layout: Layout, state: object, return_history: bool) -> None:
    """Raise ValueError if rows that are cut into pieces are to continue, or to be rolled back."""
    if layout.process_group is None:
        return
    if state is not None:
        raise ValueError("state: expected None with process_group, whose rows start at rank 0")
    if return_history:
        raise ValueError("return_history=True: expected False with process_group")


def gather_pieces(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the tensors x (B, ...) of all P ranks, (B, P, ...), in the order of the ranks.

    The gradient of x is the sum of those of all ranks. Every rank has to use the result: its
    backward pass waits for the gradients of the others.

    Cost: x is sent to the P - 1 other ranks, and as much in the backward pass.
    """
    return _AllGather.apply(x.contiguous(), group)


def inputs_before(u: Tensor, count: int, group: dist.ProcessGroup) -> Tensor:
    """Return the `count` tokens before those of this rank, (B, count, D), zeros before the first.

    Args:
        u: (B, N, D) the tokens of this rank. N may be less than `count`.
    """
    batch, n, d = u.shape
    num_sent = min(n, count)
    sent = gather_pieces(u[:, n - num_sent :], group).flatten(1, 2)
    start = group.rank() * num_sent
    return torch.cat([u.new_zeros(batch, count, d), sent], 1)[:, start : start + count]


class _AllGather(torch.autograd.Function):
    # PyTorch has this function with a gradient only under names that its releases deprecate.

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        pieces = [torch.empty_like(x) for _ in range(group.size())]
        dist.all_gather(pieces, x, group=group)
        return torch.stack(pieces, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        sent = grad.transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=ctx.group)
        return received.sum(0), None
