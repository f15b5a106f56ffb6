"""The causal mixer of language models: a running sum of token vectors, and its state."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers._pieces import check_pieces, gather_pieces, inputs_before
from hyperagg.layers._sequences import run_over_sequences
from hyperagg.layers._validation import check_sizes, check_tokens
from hyperagg.layers.batch_layout import Layout
from hyperagg.layers.recurrences import AbsolutePositions, ScanInputs, make_recurrence
from hyperagg.ops import Causal
from hyperagg.ops.convolution import short_convolution

__all__ = ["CausalAggregation", "MixerState", "ShortConvolution", "StateHistory"]


class StateHistory(NamedTuple):
    """Hold the states after each of the latest M tokens, for `MixerState.rollback`.

    Args:
        sums: (B, 1 + M, E), in float32 or better: the sums before the first token and after each;
            of an associative mixer (B, 1 + M, H, E, E).
        conv_inputs: (B, K - 1 + M, D) inputs of the convolution over K tokens, in an associative
            mixer of 3 H E channels, or None without a convolution.
    """

    sums: Tensor
    conv_inputs: Tensor | None


class MixerState(NamedTuple):
    """Hold what a mixer keeps of the preceding tokens: E sums and (K - 1) D inputs per row.

    `AssociativeAggregation` has H E^2 sums and (K - 1) 3 H E inputs per row.

    Args:
        sums: the running sums in float32 or better, and the number of tokens that they contain.
        conv_state: (B, K - 1, D) the latest inputs of the convolution, or None without one.
        history: the states after each of the latest tokens, if they were requested.
    """

    sums: ops.State
    conv_state: Tensor | None
    history: StateHistory | None = None

    def rollback(self, num_tokens: int) -> MixerState:
        """Return the state before the last `num_tokens` tokens.

        Args:
            num_tokens: an integer from 0 to the number of tokens in `history`.

        Raises:
            ValueError: if the history does not hold that many tokens.

        Cost: a copy of one state.
        """
        available = 0 if self.history is None else self.history.sums.shape[1] - 1
        if self.history is None or not 0 <= num_tokens <= available:
            raise ValueError(
                f"num_tokens={num_tokens}: expected 0 to {available}, the number of tokens in the "
                "state history"
            )
        index = available - num_tokens
        sums = ops.State(self.history.sums[:, index].clone(), self.sums.num_tokens - num_tokens)
        if self.conv_state is None or self.history.conv_inputs is None:
            return MixerState(sums, None)
        kept = slice(index, index + self.conv_state.shape[1])
        return MixerState(sums, self.history.conv_inputs[:, kept].clone())


class CausalAggregation(nn.Module):
    """Sum the tokens up to each position, weighted by p(t, i).

    context_i = sum_{t <= i} (W_v u_t) * p(t, i),   y_i = W_o (RMSNorm(context_i) * r_i)

    r_i = SiLU(W_r u_i) with an output gate, and 1 without.

    Args:
        d_model: D, an integer >= 1.
        form: the form of p(t, i).
            "gated" (default): the product of gates that the tokens between t and i compute, a gated
            linear recurrence (the family of HGRN, minGRU and QRNN).
            "decay": a power of a constant per channel.
            "complex_decay": a power of a complex constant per pair of channels.
            "prefix_sum": p_t, a free vector per position, the form of Ekin (2025).
        expand: E / D, an integer >= 1 (default: 1). W_v maps D to E channels and W_o maps E to D.
        output_gate: whether to multiply the sum by r_i (default: False).
        conv_kernel_size: K. u is first replaced by a learned weighted sum of its latest K tokens;
            0 (default) omits the convolution.
        max_length: number of position vectors; required for "prefix_sum". The other forms accept
            sequences of any length.
        norm_eps: epsilon of RMSNorm (default: 1e-6).

    Raises:
        ValueError: if an argument is out of range or unknown, or if `max_length` is missing.

    Numerics: sums in float32 or better, whatever the type of u.
    Cost: O(n d^2) for the linear maps and O(n d) for the sum. A decoding step costs O(d^2) with a
        state of E + (K - 1) D numbers. The form "gated" has 3 E D parameters, and E D more with an
        output gate.
    Source: "prefix_sum": Ekin (2025). Gates between 0 and 1 that depend on the input: Martin and
        Cundy 2018, "Parallelizing linear recurrent neural nets over sequence length". Expanded
        channels with an output gate: Gu and Dao 2023, "Mamba".

    Example:
        >>> mixer = CausalAggregation(d_model=8)
        >>> u = torch.randn(1, 6, 8)
        >>> y, state = mixer(u[:, :4])
        >>> z, state = mixer(u[:, 4:], state=state)
        >>> torch.allclose(torch.cat([y, z], 1), mixer(u)[0], atol=1e-5)
        True
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
        check_sizes(d_model=d_model, expand=expand)
        check_sizes(0, conv_kernel_size=conv_kernel_size)
        channels = expand * d_model
        self.convolution = ShortConvolution(d_model, conv_kernel_size) if conv_kernel_size else None
        self.value = nn.Linear(d_model, channels, bias=False)
        self.recurrence = make_recurrence(form, d_model, channels, max_length)
        self.norm = nn.RMSNorm(channels, eps=norm_eps)
        self.output_gate = nn.Linear(d_model, channels, bias=False) if output_gate else None
        self.out = nn.Linear(channels, d_model, bias=False)

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        layout: Layout = Layout(),
        state: MixerState | None = None,
        return_history: bool = False,
    ) -> tuple[Float[Tensor, "B N D"], MixerState]:
        """Mix tokens, continuing from `state`.

        Args:
            u: (B, N, D).
            layout: padding, packed documents, or the ranks over which rows are cut. Packed
                documents accept no state, and the state that they return is not meaningful.
            state: the state that the call for the preceding tokens returned, or None.
            return_history: whether to keep the state after each of these tokens, for
                `MixerState.rollback`: as many as the row with the fewest tokens has.

        Returns:
            y, (B, N, D), and the state after the last token of each row.

        Raises:
            ValueError: if u has the wrong shape, if packed documents or rows that are cut over
                ranks are given a state, if the layout is of a batch of another shape, or if a
                sequence is too long for the form "prefix_sum".
        """
        check_tokens("u", u, self.value.in_features)
        check_pieces(layout, state, return_history)
        conv_state, conv_inputs = None, None
        if self.convolution is not None:
            u, conv_inputs = self.convolution(u, layout, state)
            conv_state = self.convolution.next_state(conv_inputs, layout)
        # Positions cost a step of decoding more than its sum.
        positions: int | Tensor = u.shape[1]
        if isinstance(self.recurrence, AbsolutePositions):
            positions = _positions(u, layout, state)
        inputs = self.recurrence(u, self.value(u), positions)
        if return_history:
            inputs = inputs._replace(x=inputs.x.to(torch.promote_types(u.dtype, torch.float32)))
        sums, after = _running_sums(inputs, layout, None if state is None else state.sums)
        history = None
        if return_history:
            first = torch.zeros_like(after.sums) if state is None else state.sums.sums
            history = make_history(first, sums, conv_inputs, layout)
        y = self.norm(sums.to(u.dtype))
        if self.output_gate is not None:
            y = y * F.silu(self.output_gate(u))
        return self.out(y), MixerState(after, conv_state, history)


class ShortConvolution(nn.Module):
    """Replace each token by a weighted sum of itself and the K - 1 tokens before it, per channel.

    y_t = sum_{j < K} w_j * u_{t - j}

    Tokens of other sequences count as zero.

    Args:
        d_model: D.
        kernel_size: K, an integer >= 1.
        initial: "identity" (default): w_0 starts at N(1, 0.02^2) and the others at N(0, 0.02^2).
            "uniform": all start uniform in +-K^-1/2.

    Cost: O(K n d) time, K D parameters.

    Example:
        >>> y, inputs = ShortConvolution(d_model=8, kernel_size=3)(torch.randn(1, 5, 8), Layout())
        >>> y.shape, inputs.shape
        (torch.Size([1, 5, 8]), torch.Size([1, 7, 8]))
    """

    def __init__(
        self,
        d_model: int,
        kernel_size: int,
        initial: Literal["identity", "uniform"] = "identity",
    ) -> None:
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.empty(kernel_size, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values of the weights."""
        if self.initial == "uniform":
            bound = len(self.weight) ** -0.5
            nn.init.uniform_(self.weight, -bound, bound)
            return
        nn.init.normal_(self.weight, 0.0, 0.02)
        with torch.no_grad():
            self.weight[0] += 1

    def forward(
        self,
        u: Float[Tensor, "B N D"],
        layout: Layout,
        state: MixerState | None = None,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B joined D"]]:
        """Convolve tokens, continuing from `state`.

        Returns:
            y, (B, N, D), and the inputs, (B, K - 1 + N, D): those of the state, then u.
        """
        preceding = len(self.weight) - 1
        if layout.process_group is not None and preceding:
            inputs = torch.cat([inputs_before(u, preceding, layout.process_group), u], 1)
        elif state is None or state.conv_state is None:
            inputs = nn.functional.pad(u, (0, 0, preceding, 0))
        else:
            inputs = torch.cat([state.conv_state.to(u.dtype), u], 1)
        position_ids = layout.find_position_ids(*u.shape[:2])
        if position_ids is None or state is None:
            return short_convolution(inputs, self.weight, position_ids), inputs
        y = self.weight[0] * u
        for j in range(1, preceding + 1):
            y = y + self.weight[j] * _shifted(inputs, u.shape[1], j, position_ids, state)
        return y, inputs

    def next_state(
        self, inputs: Float[Tensor, "B joined D"], layout: Layout
    ) -> Float[Tensor, "B kept D"]:
        """Return the last K - 1 inputs of every row, (B, K - 1, D), without padding."""
        preceding = len(self.weight) - 1
        state = _latest(inputs, inputs.shape[1] - preceding, 0, layout)
        # A view would keep all of the inputs in memory.
        return state.clone() if layout.lengths is None else state


def make_history(
    first: Tensor, sums: Tensor, conv_inputs: Tensor | None, layout: Layout
) -> StateHistory:
    """The states before and after each of the latest tokens, as many as every row has."""
    n, num_latest = sums.shape[1], sums.shape[1]
    if layout.lengths is not None and len(layout.lengths):
        num_latest = int(layout.lengths.min())
    all_sums = torch.cat([first[:, None], sums.to(first.dtype)], 1)
    return StateHistory(
        _latest(all_sums, n, num_latest, layout),
        None if conv_inputs is None else _latest(conv_inputs, n, num_latest, layout),
    )


def _latest(joined: Tensor, n: int, num_latest: int, layout: Layout) -> Tensor:
    """What precedes the end of each row, without padding.

    Args:
        joined: (B, S + N, ...), S entries of the state and then the batch of N columns.
        n: N.
        num_latest: M, at most the number of tokens of the shortest row.

    Returns:
        (B, S + M, ...), the last entries of each row: its own in the batch, and before them
        those of the state.
    """
    if layout.lengths is None:
        return joined[:, n - num_latest :]
    kept = joined.shape[1] - n
    lengths = layout.lengths[:, None]
    start = n - lengths if layout.padding == "left" else 0
    column = start + lengths + torch.arange(-num_latest, kept, device=joined.device)
    return _take(joined, torch.where(column < kept + start, column - start, column))


def _running_sums(
    inputs: ScanInputs, layout: Layout, state: ops.State | None
) -> tuple[Tensor, ops.State]:
    """The running sums of every sequence, (B, N, E), and the state after them."""
    x, p, decay, gate = inputs
    whole = partial(ops.aggregate, p=p, decay=decay)
    step = partial(_step, p=p, decay=decay)
    before = partial(_sums_before, decay=decay)
    return run_over_sequences(whole, step, before, dict(x=x, gate=gate), layout, state)


def _step(
    x: Tensor,
    state: ops.State | None,
    gate: Tensor | None = None,
    *,
    p: Tensor | None,
    decay: Tensor | None,
) -> tuple[Tensor, ops.State]:
    first = None if p is None else p[0]
    return ops.step(x, first, state, mask=Causal(), decay=decay, gate=gate)


def _sums_before(
    x: Tensor, gate: Tensor | None = None, *, decay: Tensor | None, group: dist.ProcessGroup
) -> Tensor:
    """The sums of the tokens on the ranks before this one, (B, E).

    A piece of n tokens is one token of a shorter row: its term is the sum of its tokens, and its
    gate is the product of their gates, or its decay the n-th power of theirs.
    """
    _, piece = ops.aggregate(x, mask=Causal(), decay=decay, gate=gate, return_state=True)
    terms = piece.sums
    if decay is not None:
        decay = decay.to(torch.promote_types(decay.dtype, terms.dtype)) ** x.shape[1]
    if gate is None:
        terms = gather_pieces(terms, group)
    else:
        product = gate.to(terms.dtype).prod(1)
        terms, gate = gather_pieces(torch.cat([terms, product], 1), group).chunk(2, 2)
    after = ops.aggregate(terms, mask=Causal(), decay=decay, gate=gate)
    return F.pad(after, (0, 0, 1, 0))[:, group.rank()]


def _positions(u: Tensor, layout: Layout, state: MixerState | None) -> int | Tensor:
    """The position of each token, (B, N), or their number if all sequences start at 0."""
    batch, n, _ = u.shape
    if layout.process_group is not None:
        first = layout.process_group.rank() * n
        return torch.arange(first, first + n, device=u.device).expand(batch, n)
    if state is None:
        # Under torch.compile the longest document is unknown; it has at most n tokens.
        if layout.documents is None or layout.documents.max_seqlen is None:
            return n
        return layout.documents.max_seqlen
    position_ids = layout.find_position_ids(batch, n)
    if position_ids is None:
        position_ids = torch.arange(n, device=state.sums.num_tokens.device)
    return position_ids + state.sums.num_tokens[:, None]


def _shifted(inputs: Tensor, n: int, j: int, position_ids: Tensor, state: MixerState) -> Tensor:
    """For each token the input j tokens before it in its sequence, or zero; (B, N, D).

    Padding may lie between these tokens and those of the state.
    """
    preceding = inputs.shape[1] - n
    token = torch.arange(n, device=inputs.device)
    is_before = position_ids + state.sums.num_tokens[:, None] < j
    index = preceding - j + torch.where(position_ids >= j, token, position_ids)
    return _take(inputs, index).masked_fill(is_before[..., None], 0)


def _take(inputs: Tensor, index: Int[Tensor, "B M"]) -> Tensor:
    """inputs[b, index[b, m]], (B, M, ...)."""
    index = index.reshape(*index.shape, *[1] * (inputs.ndim - 2))
    return inputs.gather(1, index.expand(-1, -1, *inputs.shape[2:]))
