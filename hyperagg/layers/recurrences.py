"""p(t, i), what a token t weighs for a place i: the forms of one family of causal sums.

    context_i = sum_{t <= i} v_t * p(t, i)

Each form says what `hyperagg.ops.aggregate` has to be given for it, so that every one of them costs
O(n d) and goes on from a state of as many numbers as there are channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = [
    "FORMS",
    "AbsolutePositions",
    "ComplexDecay",
    "ConstantDecay",
    "InputGate",
    "Terms",
]


class Terms(NamedTuple):
    """Arguments of `hyperagg.ops.aggregate`: what is summed, and what a step leaves of it."""

    x: Tensor
    p: Tensor | None = None
    decay: Tensor | None = None
    gate: Tensor | None = None


class AbsolutePositions(nn.Module):
    """p(t, i) = p_t: a free vector a place, the same for every later place. The source's form.

    Args:
        channels: E.
        max_length: places there are vectors for; a longer sequence raises ValueError.
    """

    def __init__(self, channels: int, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, 1.0, 0.02)

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        places: int | Int[Tensor, "B N"],
    ) -> Terms:
        """The terms v_t p_t. `places`: (B, N); or how many, where sequences start at 0."""
        longest = places if isinstance(places, int) else int(places.max()) + 1
        if longest > len(self.weight):
            raise ValueError(
                f"a sequence of {longest} tokens: there are absolute positions for "
                f"{len(self.weight)} only; train with more, or use a relative form (gate, decay)"
            )
        if isinstance(places, int):
            return Terms(v, p=self.weight[:longest])
        return Terms(v * self.weight[places])


class ConstantDecay(nn.Module):
    """p(t, i) = sqrt(1 - a^2) a^(i - t): each channel forgets at a rate of its own.

    a = exp(-exp(log_rate)) in (0, 1). The factor leaves the sum of uncorrelated terms of size one
    at size one.

    Args:
        channels: E. Half-lives start at 1 ... 512 tokens, evenly in their logarithm.
    """

    longest_half_life = 512

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        half_lives = _half_lives(len(self.log_rate), self.longest_half_life)
        with torch.no_grad():
            self.log_rate.copy_((math.log(2) / half_lives).log())

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        places: int | Int[Tensor, "B N"],
    ) -> Terms:
        """The terms sqrt(1 - a^2) v_t and the decay a, (E,)."""
        decay = torch.exp(-self.log_rate.float().exp())
        return Terms(v * (1 - decay**2).sqrt().to(v.dtype), decay=decay)


class ComplexDecay(nn.Module):
    """p(t, i) = sqrt(1 - |a|^2) a^(i - t) with complex a: channels turn in pairs as they fade.

    a = exp(-exp(log_rate) + i frequency). Channels 2k and 2k + 1 are real and imaginary part.

    Args:
        channels: E, even. Half-lives start at 1 ... 512 tokens, and a quarter turn in each.
    """

    longest_half_life = 512

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"{channels} channels: rotation turns them in pairs; give an even D")
        self.log_rate = nn.Parameter(torch.empty(channels // 2))
        self.frequency = nn.Parameter(torch.empty(channels // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        half_lives = _half_lives(len(self.log_rate), self.longest_half_life)
        with torch.no_grad():
            self.log_rate.copy_((math.log(2) / half_lives).log())
            self.frequency.copy_(math.pi / 2 / half_lives)

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        places: int | Int[Tensor, "B N"],
    ) -> Terms:
        """The terms sqrt(1 - |a|^2) v_t and the decay a, (E / 2,) complex."""
        size = torch.exp(-self.log_rate.float().exp())
        scale = (1 - size**2).sqrt().repeat_interleave(2).to(v.dtype)
        return Terms(v * scale, decay=torch.polar(size, self.frequency.float()))


class InputGate(nn.Module):
    """p(t, i) = (1 - a_t) a_{t+1} ... a_i: what stands between decides how much is left.

    a_t = sigmoid(W u_t + b) in (0, 1), so a sum is a running average, c_i = a_i c_{i-1} +
    (1 - a_i) v_i, and never outgrows its terms.

    Args:
        d_model: D.
        channels: E, of v; None: D. b starts at half-lives of 1 ... 64 tokens, evenly in their
            logarithm.
    """

    longest_half_life = 64

    def __init__(self, d_model: int, channels: int | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model if channels is None else channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.linear.weight, 0.0, self.linear.in_features**-0.5)
        left = 0.5 ** (1 / _half_lives(self.linear.out_features, self.longest_half_life))
        with torch.no_grad():
            self.linear.bias.copy_(left.logit())

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        places: int | Int[Tensor, "B N"],
    ) -> Terms:
        """The terms (1 - a_t) v_t and the gate a, (B, N, E)."""
        # In bfloat16 a gate near one could not tell 64 tokens from 90.
        a = torch.sigmoid(self.linear(u).to(torch.promote_types(u.dtype, torch.float32)))
        return Terms(v - a * v, gate=a)


FORMS = ("prefix_sum", "decay", "complex_decay", "gated")


def _half_lives(channels: int, longest: int) -> Tensor:
    """(channels,) from 1 to `longest`, a constant factor apart."""
    return torch.logspace(0, math.log10(longest), channels)
