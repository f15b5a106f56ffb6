"""Superposition as a memory: how many tokens can be retrieved from a sum of d dimensions.

    c = sum_t e_{w_t} * p_t,    u = c * p_i  (or c / p_i),    retrieved token  argmax_v  e_v . u

Position i is unbound, and the retrieved token is the one whose vector has the largest dot product
with the result (a matched filter). `capacity_theory` predicts how often it is correct.

Source: Plate 1995, "Holographic reduced representations", for binding, superposition and the noise
of the other terms; element-wise products as the binding: Gayler 1998, Kanerva 2009.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hyperagg import ops
from hyperagg.layers.positions import LearnedPositions, SinusoidalPositions

__all__ = [
    "KINDS",
    "VOCABULARY",
    "Kind",
    "Memory",
    "accuracy",
    "frontier",
    "query_positions",
    "train",
]

VOCABULARY = 1024
# Positions to retrieve per sequence, and sequences per draw of the vectors.
_POSITIONS, _SEQUENCES = 16, 16


@dataclass(frozen=True)
class Memory:
    """Vectors of tokens and positions, and how a position is unbound.

    Args:
        embedding: (V, D) vectors of tokens.
        p: (N, D) vectors of positions.
        divide: unbind by u = c / p_i instead of u = c * p_i.
    """

    embedding: Float[Tensor, "V D"]
    p: Float[Tensor, "N D"]
    divide: bool = False


@dataclass(frozen=True)
class Kind:
    """How the vectors of a memory are drawn from the global generator of PyTorch."""

    embedding: Callable[[int, int], Tensor]
    positions: Callable[[int, int], Tensor]
    divide: bool = False

    def draw(self, d: int, n: int, vocabulary: int = VOCABULARY) -> Memory:
        """Draw a memory of n positions in d dimensions."""
        return Memory(self.embedding(vocabulary, d), self.positions(n, d), self.divide)


def _signs(rows: int, d: int) -> Tensor:
    return torch.randint(0, 2, (rows, d)).mul_(2).sub_(1).float()


def _sinusoidal(n: int, d: int) -> Tensor:
    return SinusoidalPositions(d, n, trainable=False).weight


def _all_frequencies(n: int, d: int) -> Tensor:
    """Sinusoids of frequencies drawn uniformly from 0 to pi, with random phases."""
    frequency, phase = math.pi * torch.rand(d // 2), 2 * math.pi * torch.rand(d // 2)
    angle = torch.arange(n)[:, None] * frequency + phase
    return torch.cat([angle.sin(), angle.cos()], 1)


def _untrained(n: int, d: int) -> Tensor:
    return LearnedPositions(d, n).weight.detach()


# Where positions are studied, tokens are signs: their norms are equal and their noise is minimal.
KINDS = {
    "random signs": Kind(_signs, _signs),
    "Gaussian": Kind(torch.randn, torch.randn),
    "Gaussian, divided": Kind(torch.randn, torch.randn, divide=True),
    "sinusoidal": Kind(_signs, _sinusoidal),
    "all frequencies": Kind(_signs, _all_frequencies),
    "learned, untrained": Kind(_signs, _untrained),
}


@torch.no_grad()
def accuracy(draw: Callable[[], Memory], retrievals: int, seed: int) -> float:
    """Measure the fraction of positions whose token is retrieved.

    Args:
        draw: returns a memory of N positions; called again after every 256 retrievals.
        retrievals: number of positions to retrieve, up to 16 per sequence of uniform random tokens.
        seed: seed of everything that is drawn.
    """
    correct, total = 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while total < retrievals:
            memory = draw()
            n, vocabulary = len(memory.p), len(memory.embedding)
            positions = query_positions(n)
            for _ in range(_POSITIONS // len(positions)):
                tokens = torch.randint(0, vocabulary, (_SEQUENCES, n))
                retrieved = _scores(memory, tokens, positions).argmax(-1)
                correct += int((retrieved == tokens[:, positions]).sum())
                total += retrieved.numel()
    return correct / total


def query_positions(n: int) -> Tensor:
    """Return up to 16 positions, evenly spaced from the first to the last."""
    return torch.linspace(0, n - 1, min(n, _POSITIONS)).round().long()


def _scores(memory: Memory, tokens: Tensor, positions: Tensor) -> Float[Tensor, "B M V"]:
    """e_v . u of every token at the given positions of every sequence."""
    c = ops.aggregate_tokens(tokens, memory.embedding, memory.p)[:, None]
    p = memory.p[positions]
    return (c / p if memory.divide else c * p) @ memory.embedding.T


def train(
    d: int,
    n: int,
    seed: int,
    *,
    vocabulary: int = VOCABULARY,
    steps: int = 1500,
    batch: int = 512,
    learning_rate: float = 0.03,
    init_stddev: float = 0.02,
) -> Memory:
    """Train tokens and positions of a memory jointly, by the cross-entropy of retrieval.

    The initial tokens are Gaussian and the initial positions 1 + init_stddev * N(0, 1), as in a
    layer. That reaches more than random signs, which training hardly changes. The optimizer is
    Adam with a learning rate that falls linearly to zero. Every step retrieves `batch` positions
    of new random sequences.

    Cost: O(steps * batch * V * d).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embedding = torch.randn(vocabulary, d) / math.sqrt(d)
        p = LearnedPositions(d, n, init_stddev).weight.detach().clone()
        scale = torch.tensor(math.log(10.0))
        weights = [w.requires_grad_() for w in (embedding, p, scale)]
        optimizer = torch.optim.Adam(weights, lr=learning_rate)
        per_sequence = min(n, _POSITIONS)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            tokens = torch.randint(0, vocabulary, (max(1, batch // per_sequence), n))
            positions = torch.randperm(n)[:per_sequence]
            c = (F.embedding(tokens, embedding) * p).sum(1, keepdim=True)
            logits = scale.exp() * ((c * p[positions]) @ embedding.T)
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, positions].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Memory(embedding.detach(), p.detach())


def frontier(
    lengths: Sequence[int], accuracies: Sequence[float], level: float, retrievals: int
) -> float | None:
    """Find the n at which accuracy first falls below `level`; None if no two lengths enclose it.

    Between two lengths the logit of the accuracy is interpolated linearly in log n. Accuracies are
    first moved half a retrieval away from 0 and 1.
    """
    half = 0.5 / (retrievals + 1)
    p = np.clip(np.asarray(accuracies, dtype=float), half, 1 - half)
    over = np.log(p / (1 - p)) - math.log(level / (1 - level))
    below = np.flatnonzero(over < 0)
    if not len(below) or below[0] == 0:
        return None
    j = int(below[0])
    fraction = over[j - 1] / (over[j - 1] - over[j])
    return float(lengths[j - 1] * (lengths[j] / lengths[j - 1]) ** fraction)
