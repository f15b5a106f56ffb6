"""The loss of causal language models, from logits or by chunks without storing them."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["causal_lm_loss", "chunked_causal_lm_loss", "has_chunked_loss"]

# Target of the positions without a loss, as everywhere in transformers.
IGNORE_INDEX = -100


def causal_lm_loss(
    logits: Tensor,
    labels: Tensor | None,
    vocab_size: int,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """Return -sum log p(target) / max(1, number of targets).

    Args:
        logits: (B, N, V).
        labels: (B, N) the input ids, and -100 where no loss is wanted. The target of a position is
            the next label.
        vocab_size: V.
        num_items_in_batch: the number of targets of a batch of which this is a part; None
            (default): of these labels.
        shift_labels: (B, N) the targets themselves; `labels` are then not used.
        kwargs: accepted and not used, as in the losses of transformers.

    Numerics: logits are converted to float32. Without a target the loss is 0, and so are its
        gradients.
    """
    logits, targets = _with_targets(logits, labels, shift_labels)
    total = F.cross_entropy(
        logits.float().view(-1, vocab_size), targets, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return _normalized(total, targets, num_items_in_batch)


def chunked_causal_lm_loss(
    x: Tensor,
    weight: Tensor,
    labels: Tensor | None,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
) -> Tensor:
    """Return the loss of the logits x W^T, by chunks of tokens whose logits fit into a cache.

    Args:
        x: (B, N, D), at least one of whose tokens has a target.
        weight: (V, D).
        labels, num_items_in_batch, shift_labels: see `causal_lm_loss`.
    """
    x, targets = _with_targets(x, labels, shift_labels)
    total = F.linear_cross_entropy(
        x,
        weight.to(x.dtype),
        targets,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=min(512, len(x))),
    )
    return _normalized(total, targets, num_items_in_batch)


def has_chunked_loss(head: nn.Module, num_targets: int) -> bool:
    """Return whether `chunked_causal_lm_loss` computes what the module `head` would.

    Older versions of PyTorch lack the function, and a head that is replaced, wrapped or hooked
    must be called.
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        hasattr(nn, "LinearCrossEntropyOptions")
        and type(head) is nn.Linear
        and head.bias is None
        and "forward" not in vars(head)
        and not any(getattr(head, name) for name in hooks)
        and num_targets > 0
    )


def _with_targets(
    x: Tensor, labels: Tensor | None, shift_labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The vectors of the positions that predict, (M, D), and their targets, (M,)."""
    if shift_labels is None:
        assert labels is not None
        x, shift_labels = x[:, :-1], labels[:, 1:]
    return x.flatten(0, 1), shift_labels.flatten().to(x.device)


def _normalized(total: Tensor, targets: Tensor, num_items: Tensor | int | None) -> Tensor:
    if num_items is None:
        num_items = (targets != IGNORE_INDEX).sum()
    if isinstance(num_items, Tensor):
        return total / num_items.to(total.device).clamp(min=1)
    return total / max(1, num_items)
