"""One small model for all tasks and mixers: a stem, blocks of the language model, a linear head."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.language.configuration_hyperagg import HyperAggConfig
from hyperagg.language.modeling_hyperagg import HyperAggModel
from research.studies.sequence_tasks import MadeUp, Real, Rows

__all__ = ["MIXERS", "Reader", "accuracy", "train"]

# The layers of each, and the newest tokens that a convolution before its sums takes together.
MIXERS = {
    "identity": ("identity", 0),
    "prefix_sum": ("prefix_sum", 0),
    "decay": ("decay", 0),
    "gated": ("gated", 0),
    "convolution and gate": ("gated", 4),
    "attention": ("full_attention", 0),
}
_LAYERS = 2


class Reader(nn.Module):
    """Logits at the last places of a made up task, or of the mean over a real row's tokens.

    Args:
        mixer: of MIXERS; all have as many weights in their blocks, 24 d^2, by the width of the
            feed-forward layers. What is left out of that count: the stem, the head, and the n d
            position vectors that "prefix_sum" has besides.
        task: what is read and answered.
        d, n: dimension, and the longest row.
    """

    def __init__(self, mixer: str, task: MadeUp | Real, d: int, n: int) -> None:
        super().__init__()
        tokens = task.vocabulary(n) if isinstance(task, MadeUp) else task.vocabulary
        patch = 0 if isinstance(task, MadeUp) else task.patch
        places = n // max(1, patch)
        wanted = 12 * _LAYERS * d * d
        with torch.device("meta"):
            narrow = HyperAggModel(_config(mixer, d, d, 1, places))
        width = d + (wanted - _weights(narrow)) / (2 * d * _LAYERS)
        self.body = HyperAggModel(_config(mixer, d, round(width), max(1, tokens), places))
        self.stem = nn.Linear(patch, d) if patch else None
        self.answers = task.answers if isinstance(task, MadeUp) else 0
        self.head = nn.Linear(d, task.classes)

    def forward(self, rows: Rows) -> Float[Tensor, "B answers C"]:
        inputs, lengths = torch.from_numpy(rows.inputs), torch.from_numpy(rows.lengths)
        mask = (torch.arange(inputs.shape[1]) < lengths[:, None]).long()
        given = {"input_ids": inputs} if self.stem is None else {"inputs_embeds": self.stem(inputs)}
        x = self.body(**given, attention_mask=mask, use_cache=False).last_hidden_state
        if self.answers:
            return self.head(x[:, -self.answers :])
        return self.head(ops.aggregate(x, lengths=lengths, normalize="mean"))

    @property
    def block_weights(self) -> int:
        return _weights(self.body)


def _config(mixer: str, d: int, width: int, tokens: int, places: int) -> HyperAggConfig:
    kind, convolved = MIXERS[mixer]
    return HyperAggConfig(
        vocab_size=tokens,
        hidden_size=d,
        intermediate_size=width,
        num_hidden_layers=_LAYERS,
        layer_types=kind,
        expand=1,
        output_gate=False,
        conv_kernel_size=convolved,
        num_attention_heads=max(1, d // 16),
        max_position_embeddings=places if kind == "prefix_sum" else None,
    )


def _weights(body: nn.Module) -> int:
    """Of the blocks: without embeddings and the position vectors of "prefix_sum"."""
    return sum(
        weight.numel()
        for name, weight in body.named_parameters()
        if "embed_tokens" not in name and not (name.endswith("recurrence.weight"))
    )


def train(
    model: Reader,
    batch: Callable[[int], Rows],
    steps: int,
    rate: float,
    moved: Callable[[], None] = lambda: None,
) -> None:
    """AdamW with a warm-up of a tenth of the steps, the rate falling to zero; `batch(step)`."""
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    warm = max(1, steps // 10)
    for step in range(steps):
        falling = 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / warm) * falling
        rows = batch(step)
        loss = F.cross_entropy(model(rows).flatten(0, 1), torch.from_numpy(rows.labels).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        moved()


@torch.no_grad()
def accuracy(model: Reader, rows: Rows, at_once: int) -> float:
    """The share of answers that are right."""
    model.eval()
    right = 0
    for start in range(0, len(rows.labels), at_once):
        part = rows.take(np.arange(start, min(start + at_once, len(rows.labels))))
        right += int((model(part).argmax(-1).numpy() == part.labels).sum())
    return right / rows.labels.size
