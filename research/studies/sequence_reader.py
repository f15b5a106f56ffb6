"""A small model for all tasks and mixers: a stem, blocks of the language model, a linear head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.language import HyperAggConfig, HyperAggModel
from research.studies.sequence_tasks import RealTask, Rows, SyntheticTask

__all__ = ["MIXERS", "SequenceReader", "accuracy", "train"]

# The arguments of `HyperAggConfig` for each.
MIXERS: dict[str, dict[str, Any]] = {
    "identity": {"layer_types": "identity"},
    "prefix_sum": {"layer_types": "prefix_sum"},
    "decay": {"layer_types": "decay"},
    "gated": {"layer_types": "gated"},
    "convolution + gated": {"layer_types": "gated", "conv_kernel_size": 4},
    "associative": {"layer_types": "associative"},
    "gated + associative": {"layer_types": "gated_associative"},
    "gated + associative (beta to 2)": {
        "layer_types": "gated_associative",
        "negative_eigenvalues": True,
    },
    "attention": {"layer_types": "full_attention"},
}
_LAYERS = 2


class SequenceReader(nn.Module):
    """Predict the last positions of a synthetic task, or the label of a real row.

    A real row is pooled by the mean over its tokens.

    Args:
        mixer: one of MIXERS. All have 24 d^2 weights in their blocks; the width of the
            feed-forward layers makes up for differences. The count leaves out the stem, the head
            and the n d position vectors of "prefix_sum".
        task: states the vocabulary and the number of classes.
        d, n: model dimension, and length of the longest row.
    """

    def __init__(self, mixer: str, task: SyntheticTask | RealTask, d: int, n: int) -> None:
        super().__init__()
        vocab_size = task.vocab_size(n) if isinstance(task, SyntheticTask) else task.vocab_size
        patch = 0 if isinstance(task, SyntheticTask) else task.patch_size
        positions = n // max(1, patch)
        if isinstance(task, SyntheticTask) and task.draw_test is not None:
            positions *= 2
        target = 12 * _LAYERS * d * d
        with torch.device("meta"):
            narrow = HyperAggModel(_config(mixer, d, d, 1, positions))
        width = d + (target - _weights(narrow)) / (2 * d * _LAYERS)
        self.body = HyperAggModel(_config(mixer, d, round(width), max(1, vocab_size), positions))
        self.stem = nn.Linear(patch, d) if patch else None
        self.targets = task.targets if isinstance(task, SyntheticTask) else 0
        self.head = nn.Linear(d, task.classes)

    def forward(self, rows: Rows) -> Float[Tensor, "B targets C"]:
        inputs, lengths = torch.from_numpy(rows.inputs), torch.from_numpy(rows.lengths)
        mask = (torch.arange(inputs.shape[1]) < lengths[:, None]).long()
        given = {"input_ids": inputs} if self.stem is None else {"inputs_embeds": self.stem(inputs)}
        x = self.body(**given, attention_mask=mask, use_cache=False).last_hidden_state
        if self.targets:
            return self.head(x[:, -self.targets :])
        return self.head(ops.aggregate(x, lengths=lengths, normalize="mean"))

    @property
    def block_weights(self) -> int:
        """Number of weights in the blocks."""
        return _weights(self.body)


def _config(mixer: str, d: int, width: int, vocab_size: int, positions: int) -> HyperAggConfig:
    arguments = MIXERS[mixer]
    return HyperAggConfig(
        vocab_size=vocab_size,
        hidden_size=d,
        intermediate_size=width,
        num_hidden_layers=_LAYERS,
        expand=1,
        output_gate=False,
        num_attention_heads=max(1, d // 16),
        num_associative_heads=max(1, d // 32),
        associative_head_dim=min(32, d),
        max_position_embeddings=positions if arguments["layer_types"] == "prefix_sum" else None,
        **arguments,
    )


def _weights(body: nn.Module) -> int:
    """Count the weights of the blocks, without embedding and position vectors."""
    return sum(
        weight.numel()
        for name, weight in body.named_parameters()
        if "embed_tokens" not in name and not (name.endswith("recurrence.weight"))
    )


def train(
    model: SequenceReader,
    batch: Callable[[int], Rows],
    steps: int,
    learning_rate: float,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Train with AdamW: warm-up over a tenth of the steps, then cosine decay to zero.

    Args:
        model: changed in place.
        batch: maps a step to its rows.
        steps: number of steps.
        learning_rate: peak learning rate.
        on_step: called after every step.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    warmup = max(1, steps // 10)
    for step in range(steps):
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        scale = min(1.0, (step + 1) / warmup) * decay
        optimizer.param_groups[0]["lr"] = learning_rate * scale
        rows = batch(step)
        loss = F.cross_entropy(model(rows).flatten(0, 1), torch.from_numpy(rows.labels).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step()


@torch.no_grad()
def accuracy(model: SequenceReader, rows: Rows, batch_size: int) -> float:
    """Compute the fraction of correct answers."""
    model.eval()
    correct = 0
    for start in range(0, len(rows.labels), batch_size):
        part = rows.take(np.arange(start, min(start + batch_size, len(rows.labels))))
        correct += int((model(part).argmax(-1).numpy() == part.labels).sum())
    return correct / rows.labels.size
