"""The losses of the heads. Without any target a loss is 0, where transformers divides 0 by 0."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.loss.loss_utils import ForSequenceClassificationLoss

__all__ = [
    "LOSSES",
    "causal_lm_loss",
    "check_label_shape",
    "chunked_causal_lm_loss",
    "has_chunked_loss",
]

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


def token_classification_loss(
    logits: Tensor, labels: Tensor, config: PreTrainedConfig, **kwargs: Any
) -> Tensor:
    """Return the mean of -log p(label) over the labels that are not -100.

    Args:
        logits: (B, N, C).
        labels: (B, N).
        config, kwargs: not used; the losses of transformers receive them.

    Raises:
        ValueError: if the labels are not of shape (B, N).
    """
    check_label_shape("labels", labels, logits)
    return causal_lm_loss(logits, None, logits.shape[-1], shift_labels=labels, **kwargs)


def question_answering_loss(
    start_logits: Tensor,
    end_logits: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    **kwargs: Any,
) -> Tensor:
    """Return the mean of -log p(first token) and -log p(last token) over the rows.

    Args:
        start_logits, end_logits: (B, N).
        start_positions, end_positions: (B,) or (B, 1). Positions >= N are without a target, and
            negative ones are 0, as in the loss of transformers.
        kwargs: as the losses of transformers receive them.
    """
    n = start_logits.shape[1]
    losses = []
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
        targets = positions.flatten().clamp(min=0)
        targets = targets.masked_fill(targets >= n, IGNORE_INDEX)
        losses.append(causal_lm_loss(logits, None, n, shift_labels=targets, **kwargs))
    return (losses[0] + losses[1]) / 2


def sequence_classification_loss(
    labels: Tensor, pooled_logits: Tensor, config: PreTrainedConfig, **kwargs: Any
) -> Tensor:
    """Return the loss of transformers, which `config.problem_type` selects, or 0 for no class.

    Args:
        labels: (B,) class ids and -100 for rows without one, or float targets.
        pooled_logits: (B, C).
        config, kwargs: as the losses of transformers receive them.
    """
    num_targets = (labels != IGNORE_INDEX).sum().clamp(min=1)
    return ForSequenceClassificationLoss(
        labels, pooled_logits, config, num_items_in_batch=num_targets
    )


# By the `loss_type` of a model.
LOSSES = {
    "ForCausalLM": causal_lm_loss,
    "ForQuestionAnswering": question_answering_loss,
    "ForSequenceClassification": sequence_classification_loss,
    "ForTokenClassification": token_classification_loss,
}


def check_label_shape(name: str, labels: Tensor, x: Tensor) -> None:
    """Raise ValueError unless the labels are of shape (B, N) for x (B, N, D)."""
    if labels.shape != x.shape[:2]:
        raise ValueError(
            f"{name}: shape {tuple(labels.shape)}; expected {tuple(x.shape[:2])}, one label per "
            "position"
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
