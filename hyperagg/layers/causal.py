"""The causal mixer of language models: a running sum of token vectors, and what it remembers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers.batch_layout import Layout
from hyperagg.layers.recurrences import (
    FORMS,
    AbsolutePositions,
    ComplexDecay,
    ConstantDecay,
    InputGate,
    Terms,
)
from hyperagg.ops import Causal

__all__ = ["CausalAggregation", "MixerState", "ShortConvolution", "Trace"]


class Trace(NamedTuple):
    """The states after each of the last tokens, for going back.

    Args:
        sums: (B, 1 + N, E) in float32 or better: before the first token, and after each.
        inputs: (B, K - 1 + N, D) of the convolution of K tokens; None without one.
    """

    sums: Tensor
    inputs: Tensor | None


class MixerState(NamedTuple):
    """All that a mixer keeps of the tokens before: E sums and K - 1 inputs a row.

    Args:
        sums: the running sums, in float32 or better, and how many tokens they hold.
        recent: (B, K - 1, D) the newest inputs of the convolution; None without one.
        trace: only when asked for.
    """

    sums: ops.State
    recent: Tensor | None
    trace: Trace | None = None

    def back(self, tokens: int) -> MixerState:
        """The state before the last `tokens` tokens, which the trace has to hold."""
        if self.trace is None or not 0 <= tokens < self.trace.sums.shape[1]:
            held = 0 if self.trace is None else self.trace.sums.shape[1] - 1
            raise ValueError(f"{tokens} tokens to take back: the trace holds {held}")
        left = self.trace.sums.shape[1] - 1 - tokens
        sums = ops.State(self.trace.sums[:, left].clone(), self.sums.num_tokens - tokens)
        if self.recent is None or self.trace.inputs is None:
            return MixerState(sums, None)
        return MixerState(sums, self.trace.inputs[:, left : left + self.recent.shape[1]].clone())


class CausalAggregation(nn.Module):
    """Every place's sum of the tokens up to it, each times what it weighs there.

    context_i = sum_{t <= i} (W_v u_t) * p(t, i),   y_i = W_o (RMSNorm(context_i) * r_i)

    r_i, what place i reads of its sum, is SiLU(W_r u_i) with an output gate and 1 without.

    Args:
        d_model: D.
        form: what p(t, i) is made of. "prefix_sum": p_t, a vector a place (the source's form); "decay": a
            power of a constant for every channel; "complex_decay": of a complex one for every pair;
            "gated": the product of gates that the tokens between set.
        expand: E / D, sums of how many channels; W_v makes E of D and W_o D of E.
        output_gate: whether a place chooses what it reads.
        conv_kernel_size: K, u is replaced by a weighted sum of its K newest before all else; 0
            leaves that out.
        max_length: places that "prefix_sum" has vectors for; the others have no end.
        norm_eps: of RMSNorm.

    Raises:
        ValueError: an unknown form, or "prefix_sum" without max_length.

    Numerics: sums in float32 or better, whatever the type of u. Cost: O(n d^2) for the linear maps,
        O(n d) for the sum; a step of decoding O(d^2) and E + (K - 1) D numbers of state. Weights
        with gates: 3 E D, and E D for the output gate.
    Source: "prefix_sum" is the source document's layer. Gates between 0 and 1 made by the input: Martin
        and Cundy 2018, "Parallelizing linear recurrent neural nets over sequence length". Expanded
        channels read by an output gate: Gu and Dao 2023, "Mamba".
    """

    def __init__(
        self,
        d_model: int,
        form: str = "gated",
        *,
        expand: int = 1,
        output_gate: bool = False,
        conv_kernel_size: int = 0,
        max_length: int | None = None,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if expand < 1:
            raise ValueError(f"expand={expand}: give at least 1")
        channels = expand * d_model
        self.convolution = ShortConvolution(d_model, conv_kernel_size) if conv_kernel_size else None
        self.value = nn.Linear(d_model, channels, bias=False)
        self.relation = _relation(form, d_model, channels, max_length)
        self.norm = nn.RMSNorm(channels, eps=norm_eps)
        self.output_gate = nn.Linear(d_model, channels, bias=False) if output_gate else None
        self.out = nn.Linear(channels, d_model, bias=False)

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        layout: Layout = Layout(),
        state: MixerState | None = None,
        trace: bool = False,
    ) -> tuple[Float[Tensor, "B N D"], MixerState]:
        """(y, state) of tokens u (B, N, D), going on from `state`.

        Args:
            u: (B, N, D).
            layout: padding or packed documents; the latter neither take nor leave a state that
                is of use.
            state: what the call for the tokens before returned.
            trace: keep the states after each of these tokens, for `MixerState.back`.
        """
        recent, inputs = None, None
        if self.convolution is not None:
            u, inputs = self.convolution(u, layout, state)
            recent = self.convolution.newest(inputs, layout)
        terms = self.relation(u, self.value(u), _places(u.shape[1], layout, state))
        if trace:
            terms = terms._replace(x=terms.x.to(torch.promote_types(u.dtype, torch.float32)))
        sums, after = _sum(terms, layout, None if state is None else state.sums)
        steps = None
        if trace:
            first = torch.zeros_like(after.sums) if state is None else state.sums.sums
            steps = Trace(torch.cat([first[:, None], sums.to(first.dtype)], 1), inputs)
        y = self.norm(sums.to(u.dtype))
        if self.output_gate is not None:
            y = y * F.silu(self.output_gate(u))
        return self.out(y), MixerState(after, recent, steps)


class ShortConvolution(nn.Module):
    """A weighted sum of each token and the K - 1 before it, channel by channel.

    y_t = sum_{j < K} w_j * u_{t - j}; tokens of other sequences count as zero.

    Args:
        d_model: D.
        size: K, at least 1. w_0 starts at one and the others near zero.

    Cost: O(K n d).
    """

    def __init__(self, d_model: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, 0.0, 0.02)
        with torch.no_grad():
            self.weight[0] += 1

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        layout: Layout,
        state: MixerState | None,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B joined D"]]:
        """(y, inputs): inputs (B, K - 1 + N, D) are the newest of before and these."""
        before = len(self.weight) - 1
        if state is None or state.recent is None:
            inputs = nn.functional.pad(u, (0, 0, before, 0))
        else:
            inputs = torch.cat([state.recent.to(u.dtype), u], 1)
        y = self.weight[0] * u
        for j in range(1, before + 1):
            y = y + self.weight[j] * _shifted(inputs, u.shape[1], j, layout.places, state)
        return y, inputs

    def newest(
        self, inputs: Float[Tensor, "B joined D"], layout: Layout
    ) -> Float[Tensor, "B recent D"]:
        """(B, K - 1, D): the last inputs of every row, padding left out."""
        before = len(self.weight) - 1
        n = inputs.shape[1] - before
        if layout.lengths is None:
            # A view would keep all of the inputs in memory.
            return inputs[:, n:].clone()
        lengths = layout.lengths[:, None]
        place = lengths + torch.arange(-before, 0, device=inputs.device)
        first = n - lengths if layout.padding == "left" else 0
        return _rows(inputs, before + torch.where(place >= 0, first + place, place))


def _sum(terms: Terms, layout: Layout, state: ops.State | None) -> tuple[Tensor, ops.State]:
    """(B, N, E) running sums in every sequence, and the state after them."""
    x, p, decay, gate = terms
    if layout.documents is not None:
        if state is not None:
            raise ValueError("state: packed documents start anew; give a row a document")
        sums, after = ops.aggregate(
            x.flatten(0, 1)[None],
            p,
            mask=layout.documents,
            decay=decay,
            gate=None if gate is None else gate.flatten(0, 1)[None],
            return_state=True,
        )
        return sums.view_as(x), after
    if x.shape[1] == 1 and layout.lengths is None:
        first, gates = None if p is None else p[0], None if gate is None else gate[:, 0]
        y, after = ops.step(x[:, 0], first, state, mask=Causal(), decay=decay, gate=gates)
        return y[:, None], after
    return ops.aggregate(
        x,
        p,
        mask=Causal(),
        lengths=layout.lengths,
        padding=layout.padding,
        decay=decay,
        gate=gate,
        initial_state=state,
        return_state=True,
    )


def _places(n: int, layout: Layout, state: MixerState | None) -> int | Tensor:
    """(B, N) places of the tokens in their sequences; how many, where they start at 0 in each."""
    if state is None:
        if layout.documents is None or layout.documents.max_seqlen is None:
            return n
        return layout.documents.max_seqlen
    start = (
        torch.arange(n, device=state.sums.num_tokens.device)
        if layout.places is None
        else layout.places
    )
    return start + state.sums.num_tokens[:, None]


def _shifted(
    inputs: Tensor, n: int, j: int, places: Tensor | None, state: MixerState | None
) -> Tensor:
    """(B, N, D): for each token the input j tokens before it in its sequence, zero if none."""
    before = inputs.shape[1] - n
    if places is None:
        return inputs[:, before - j : before - j + n]
    if state is None:
        return inputs[:, before - j : before - j + n] * (places >= j)[..., None]
    # Padding may stand between these tokens and those of the state.
    token = torch.arange(n, device=inputs.device)
    known = places + state.sums.num_tokens[:, None] >= j
    index = before - j + torch.where(places >= j, token, places)
    return _rows(inputs, index) * known[..., None]


def _rows(inputs: Tensor, index: Int[Tensor, "B M"]) -> Tensor:
    """(B, M, D): inputs[b, index[b, m]]."""
    return inputs.gather(1, index[..., None].expand(-1, -1, inputs.shape[2]))


def _relation(form: str, d_model: int, channels: int, max_length: int | None) -> nn.Module:
    if form == "prefix_sum":
        if max_length is None:
            raise ValueError("max_length: form='sum' needs to know how many places there are")
        return AbsolutePositions(channels, max_length)
    if form == "gated":
        return InputGate(d_model, channels)
    relations = {"decay": ConstantDecay, "complex_decay": ComplexDecay}
    if form not in relations:
        raise ValueError(f"form={form!r}: there are {', '.join(FORMS)}")
    return relations[form](channels)
