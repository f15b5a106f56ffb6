"""Superposition as a memory: how many tokens fit into d dimensions before they drown each other.

    c = sum_t e_{w_t} * p_t,    u = c * p_i  (or c / p_i),    answer  argmax_v  e_v . u

Place i is unbound, and the answer is the token whose vector has the greatest dot product with what
comes out (a matched filter). `capacity_theory` predicts how often that is right.

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

__all__ = ["KINDS", "VOCABULARY", "Kind", "Memory", "accuracy", "asked_places", "frontier", "train"]

VOCABULARY = 1024
# Places asked for in each sequence, and sequences for each drawing of the vectors.
_PLACES, _SEQUENCES = 16, 16


@dataclass(frozen=True)
class Memory:
    """Vectors of tokens and of places, and whether a place is divided or multiplied out.

    Args:
        embedding: (V, D).
        p: (N, D).
        divide: u = c / p_i; else u = c * p_i.
    """

    embedding: Float[Tensor, "V D"]
    p: Float[Tensor, "N D"]
    divide: bool = False


@dataclass(frozen=True)
class Kind:
    """How the vectors of a memory are drawn, from PyTorch's global generator."""

    embedding: Callable[[int, int], Tensor]
    positions: Callable[[int, int], Tensor]
    divide: bool = False

    def draw(self, d: int, n: int, vocabulary: int = VOCABULARY) -> Memory:
        return Memory(self.embedding(vocabulary, d), self.positions(n, d), self.divide)


def _signs(rows: int, d: int) -> Tensor:
    return torch.randint(0, 2, (rows, d)).mul_(2).sub_(1).float()


def _sinusoidal(n: int, d: int) -> Tensor:
    return SinusoidalPositions(d, n, trainable=False).weight


def _all_frequencies(n: int, d: int) -> Tensor:
    """The same, but of frequencies drawn evenly from 0 to pi, and of any phase."""
    frequency, phase = math.pi * torch.rand(d // 2), 2 * math.pi * torch.rand(d // 2)
    angle = torch.arange(n)[:, None] * frequency + phase
    return torch.cat([angle.sin(), angle.cos()], 1)


def _as_they_start(n: int, d: int) -> Tensor:
    return LearnedPositions(d, n).weight.detach()


# Where positions are what is looked at, the tokens are signs: equal norms, the least noise.
KINDS = {
    "random signs": Kind(_signs, _signs),
    "Gaussian": Kind(torch.randn, torch.randn),
    "Gaussian, divided": Kind(torch.randn, torch.randn, divide=True),
    "sinusoidal": Kind(_signs, _sinusoidal),
    "all frequencies": Kind(_signs, _all_frequencies),
    "learned, untrained": Kind(_signs, _as_they_start),
}


@torch.no_grad()
def accuracy(draw: Callable[[], Memory], retrievals: int, seed: int) -> float:
    """The share of places whose token is found.

    Args:
        draw: makes a memory of N places; called anew after every 256 retrievals.
        retrievals: how many places are asked for: up to 16 a sequence, of tokens drawn alike.
        seed: of everything that is drawn.
    """
    right, asked = 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while asked < retrievals:
            memory = draw()
            n, vocabulary = len(memory.p), len(memory.embedding)
            places = asked_places(n)
            for _ in range(_PLACES // len(places)):
                tokens = torch.randint(0, vocabulary, (_SEQUENCES, n))
                found = _scores(memory, tokens, places).argmax(-1)
                right += int((found == tokens[:, places]).sum())
                asked += found.numel()
    return right / asked


def asked_places(n: int) -> Tensor:
    """Up to 16 places, evenly from the first to the last."""
    return torch.linspace(0, n - 1, min(n, _PLACES)).round().long()


def _scores(memory: Memory, tokens: Tensor, places: Tensor) -> Float[Tensor, "B M V"]:
    """e_v . u of every token for the places asked for in every sequence."""
    c = ops.aggregate_tokens(tokens, memory.embedding, memory.p)[:, None]
    p = memory.p[places]
    return (c / p if memory.divide else c * p) @ memory.embedding.T


def train(
    d: int,
    n: int,
    seed: int,
    *,
    vocabulary: int = VOCABULARY,
    steps: int = 1500,
    batch: int = 512,
    rate: float = 0.03,
    init_stddev: float = 0.02,
) -> Memory:
    """A memory whose tokens and places are learned together, by the cross-entropy of retrieval.

    Starts from Gaussian tokens and places of 1 + init_stddev * N(0, 1), as a layer does, which
    leads further than random signs do: these are hard to leave. Adam, the rate falling to zero;
    every step retrieves `batch` places of new random sequences.

    Cost: O(steps * batch * V * d).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embedding = torch.randn(vocabulary, d) / math.sqrt(d)
        p = LearnedPositions(d, n, init_stddev).weight.detach().clone()
        scale = torch.tensor(math.log(10.0))
        weights = [w.requires_grad_() for w in (embedding, p, scale)]
        optimizer = torch.optim.Adam(weights, lr=rate)
        asked = min(n, _PLACES)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            tokens = torch.randint(0, vocabulary, (max(1, batch // asked), n))
            places = torch.randperm(n)[:asked]
            c = (F.embedding(tokens, embedding) * p).sum(1, keepdim=True)
            logits = scale.exp() * ((c * p[places]) @ embedding.T)
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, places].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Memory(embedding.detach(), p.detach())


def frontier(
    lengths: Sequence[int], accuracies: Sequence[float], level: float, retrievals: int
) -> float | None:
    """The n at which accuracy first falls through `level`; None where no two lengths enclose it.

    Between two lengths the logit of the accuracy is taken to be linear in log n; accuracies are
    first drawn half a retrieval away from 0 and 1.
    """
    half = 0.5 / (retrievals + 1)
    p = np.clip(np.asarray(accuracies, dtype=float), half, 1 - half)
    over = np.log(p / (1 - p)) - math.log(level / (1 - level))
    below = np.flatnonzero(over < 0)
    if not len(below) or below[0] == 0:
        return None
    j = int(below[0])
    share = over[j - 1] / (over[j - 1] - over[j])
    return float(lengths[j - 1] * (lengths[j] / lengths[j - 1]) ** share)
