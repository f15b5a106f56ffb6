"""The weights p(t, i) of a token t at a position i: the forms of one family of causal sums.

    context_i = sum_{t <= i} v_t * p(t, i)

Each form computes the arguments of `hyperagg.ops.aggregate` for its sum. All of them therefore cost
O(n d) and continue from a state of one number per channel.
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
    "ScanInputs",
    "make_recurrence",
]

FORMS = ("prefix_sum", "decay", "complex_decay", "gated")


class ScanInputs(NamedTuple):
    """Hold the arguments of `hyperagg.ops.aggregate` that a recurrence determines.

    Args:
        x: (B, N, E) the terms of the sum.
        p: (P, E) position vectors, or None.
        decay: (E,) the factor per step, complex (E / 2,), or None.
        gate: (B, N, E) the factor of the step to each token, or None.
    """

    x: Tensor
    p: Tensor | None = None
    decay: Tensor | None = None
    gate: Tensor | None = None


class AbsolutePositions(nn.Module):
    """Weigh each token by the free vector of its position: p(t, i) = p_t.

    Args:
        channels: E, an integer >= 1.
        max_length: number of positions; a longer sequence raises ValueError.

    Numerics: p_t starts at N(1, 0.02^2).
    Cost: max_length * E parameters.
    Source: Ekin (2025).

    Example:
        >>> v = torch.randn(1, 5, 8)
        >>> AbsolutePositions(8, max_length=16)(v, v, 5).p.shape
        torch.Size([5, 8])
    """

    def __init__(self, channels: int, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values of the parameters."""
        nn.init.normal_(self.weight, 1.0, 0.02)

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        positions: int | Int[Tensor, "B N"],
    ) -> ScanInputs:
        """Return v and its position vectors, or their product.

        Args:
            u: (B, N, D) tokens; not used by this form.
            v: (B, N, E) values.
            positions: (B, N) position of each token in its sequence, or the number of positions if
                every sequence starts at 0.

        Raises:
            ValueError: if a sequence is longer than `max_length`.
        """
        # Under torch.compile and torch.export a number is a symbol, and positions have no values:
        # the lookup below checks them.
        if not isinstance(positions, Tensor):
            self._check_length(positions)
            return ScanInputs(v, p=self.weight[:positions])
        if positions.numel() and not torch.compiler.is_compiling():
            self._check_length(int(positions.max()) + 1)
        return ScanInputs(v * self.weight[positions])

    def _check_length(self, longest: int) -> None:
        if longest > len(self.weight):
            raise ValueError(
                f"sequence of {longest} tokens: expected at most {len(self.weight)}, the number of "
                "position vectors of the form 'prefix_sum'; train with a larger max_length, or use "
                "the form 'gated', 'decay' or 'complex_decay'"
            )


class ConstantDecay(nn.Module):
    """Weigh each token by a power of a constant per channel: p(t, i) = sqrt(1 - a^2) a^(i - t).

    a = exp(-exp(log_decay_rate)) in (0, 1). The factor sqrt(1 - a^2) keeps a sum of uncorrelated
    terms of variance one at variance one.

    Args:
        channels: E, an integer >= 1. The half-lives start at 1 to 512 tokens, evenly spaced in
            their logarithm.

    Numerics: the decay is computed in float32.
    Cost: E parameters.
    Source: constant decay is the real form of LRU (Orvieto et al. 2023, "Resurrecting recurrent
        neural networks for long sequences") and S4D (Gu et al. 2022).

    Example:
        >>> v = torch.randn(1, 5, 8)
        >>> ConstantDecay(8)(v, v, 5).decay.shape
        torch.Size([8])
    """

    max_half_life = 512

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_decay_rate = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters to their initial values."""
        half_lives = _half_lives(len(self.log_decay_rate), self.max_half_life)
        with torch.no_grad():
            self.log_decay_rate.copy_((math.log(2) / half_lives).log())

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        positions: int | Int[Tensor, "B N"],
    ) -> ScanInputs:
        """Return the terms sqrt(1 - a^2) v_t and the decay a, (E,)."""
        decay = torch.exp(-self.log_decay_rate.float().exp())
        return ScanInputs(v * (1 - decay**2).sqrt().to(v.dtype), decay=decay)


class ComplexDecay(nn.Module):
    """Weigh each token by a power of a complex constant per pair of channels.

    p(t, i) = sqrt(1 - |a|^2) a^(i - t),  a = exp(-exp(log_decay_rate) + i frequency)

    Channels 2k and 2k + 1 are the real and the imaginary part of one complex channel.

    Args:
        channels: E, an even integer >= 2. The half-lives start at 1 to 512 tokens, and each pair
            turns by a quarter of a circle within its half-life.

    Raises:
        ValueError: if `channels` is odd.

    Numerics: the decay is computed in complex64.
    Cost: E parameters.
    Source: LRU (Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences")
        and S4D (Gu et al. 2022, "On the parameterization and initialization of diagonal state
        space models").

    Example:
        >>> v = torch.randn(1, 5, 8)
        >>> ComplexDecay(8)(v, v, 5).decay.dtype
        torch.complex64
    """

    max_half_life = 512

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(
                f"channels={channels}: expected an even number for the form 'complex_decay', whose "
                "channels are pairs of a real and an imaginary part"
            )
        self.log_decay_rate = nn.Parameter(torch.empty(channels // 2))
        self.frequency = nn.Parameter(torch.empty(channels // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters to their initial values."""
        half_lives = _half_lives(len(self.log_decay_rate), self.max_half_life)
        with torch.no_grad():
            self.log_decay_rate.copy_((math.log(2) / half_lives).log())
            self.frequency.copy_(math.pi / 2 / half_lives)

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        positions: int | Int[Tensor, "B N"],
    ) -> ScanInputs:
        """Return the terms sqrt(1 - |a|^2) v_t and the decay a, complex (E / 2,)."""
        modulus = torch.exp(-self.log_decay_rate.float().exp())
        scale = (1 - modulus**2).sqrt().repeat_interleave(2).to(v.dtype)
        return ScanInputs(v * scale, decay=torch.polar(modulus, self.frequency.float()))


class InputGate(nn.Module):
    """Weigh each token by gates that the tokens after it compute: a gated linear recurrence.

    p(t, i) = (1 - a_t) a_{t+1} ... a_i,  a_t = sigmoid(W u_t + b)

    The sum is a running average, c_i = a_i c_{i-1} + (1 - a_i) v_i, and never exceeds its largest
    term. This is the family of QRNN, HGRN and minGRU: the gate depends on the input and not on the
    previous state, so that the recurrence is linear and can be computed as a scan.

    Args:
        d_model: D, an integer >= 1.
        channels: E, the number of channels of v; None: D. The bias b starts at half-lives of 1 to
            64 tokens, evenly spaced in their logarithm.

    Numerics: gates are computed in float32 or better. In bfloat16, a gate near one would not
        distinguish a half-life of 64 tokens from one of 90.
    Cost: O(n D E) time, (D + 1) E parameters.
    Source: Bradbury et al. 2017, "Quasi-recurrent neural networks" (QRNN); Martin and Cundy 2018,
        "Parallelizing linear recurrent neural nets over sequence length"; Qin et al. 2023,
        "Hierarchically gated recurrent neural network for sequence modeling" (HGRN); Feng et al.
        2024, "Were RNNs all we needed?" (minGRU).

    Example:
        >>> u = torch.randn(1, 5, 8)
        >>> InputGate(8)(u, u, 5).gate.shape
        torch.Size([1, 5, 8])
    """

    max_half_life = 64

    def __init__(self, d_model: int, channels: int | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model if channels is None else channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values of the parameters."""
        nn.init.normal_(self.linear.weight, 0.0, self.linear.in_features**-0.5)
        with torch.no_grad():
            self.linear.bias.copy_(self.initial_bias(self.linear.out_features))

    @classmethod
    def initial_bias(cls, channels: int) -> Float[Tensor, " {channels}"]:
        """Return the bias at which the gates start, (channels,)."""
        return (0.5 ** (1 / _half_lives(channels, cls.max_half_life))).logit()

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        positions: int | Int[Tensor, "B N"],
    ) -> ScanInputs:
        """Return the terms (1 - a_t) v_t and the gate a, (B, N, E)."""
        a = torch.sigmoid(self.linear(u).to(torch.promote_types(u.dtype, torch.float32)))
        return ScanInputs(v - a * v, gate=a)


def make_recurrence(
    form: str, d_model: int, channels: int, max_length: int | None = None
) -> nn.Module:
    """Return the recurrence module of a form.

    Args:
        form: one of `FORMS`.
        d_model: D, the dimension of the tokens.
        channels: E, the number of channels of the sum.
        max_length: number of positions; required for the form "prefix_sum".

    Raises:
        ValueError: if `form` is unknown, or if `max_length` is missing.

    Example:
        >>> type(make_recurrence("gated", d_model=8, channels=16)).__name__
        'InputGate'
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r}: expected one of {', '.join(FORMS)}")
    if form == "prefix_sum":
        if max_length is None or max_length < 1:
            raise ValueError(f"max_length={max_length}: expected an integer >= 1 for 'prefix_sum'")
        return AbsolutePositions(channels, max_length)
    if form == "gated":
        return InputGate(d_model, channels)
    return ConstantDecay(channels) if form == "decay" else ComplexDecay(channels)


def _half_lives(channels: int, longest: int) -> Tensor:
    """Half-lives from 1 to `longest` tokens, (channels,), in a geometric progression."""
    return torch.logspace(0, math.log10(longest), channels)
