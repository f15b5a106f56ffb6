"""The mixer that recalls: values bound to keys by outer products, and read by queries."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers._pieces import check_pieces, gather_pieces
from hyperagg.layers._sequences import run_over_sequences
from hyperagg.layers._validation import check_sizes, check_tokens
from hyperagg.layers.batch_layout import Layout
from hyperagg.layers.causal import MixerState, ShortConvolution, make_history
from hyperagg.ops.associative_plain import without_autocast

__all__ = ["AssociativeAggregation"]


class AssociativeAggregation(nn.Module):
    """Bind the value of each token to its key, and read the pairs so far by its query.

    q, k, v = SiLU(conv(W_q u)), SiLU(conv(W_k u)), SiLU(conv(W_v u)), with q and k of norm one
    o_i     = S_i^T q_i / sqrt(E),  S_i as in `hyperagg.ops.associative`
    y_i     = W_o (RMSNorm(o_i) * SiLU(W_g u_i)), the norm per head

    with beta = sigmoid(W_b u), or 2 sigmoid(W_b u), and a = exp(-A softplus(W_a u + b)) per head.
    q, k and v have a convolution each: one convolution of u could not shift keys against values, as
    it takes to bind a token to the one before it.

    Args:
        d_model: D, an integer >= 1.
        num_heads: H, an integer >= 1 (default: 1).
        head_dim: E, the number of keys and of values per head, an integer >= 1 (default: 32).
        delta_rule: whether a new pair first takes back what its key returns (default: True).
        decay: whether pairs decay by a (default: True).
        negative_eigenvalues: whether beta reaches 2, so that a step can negate what a key returns
            (default: False); with the delta rule alone. It lets a layer track a state such as a
            parity.
        conv_kernel_size: K, tokens per convolution, an integer >= 1 (default: 4).
        norm_eps: epsilon of the norms (default: 1e-6).

    Raises:
        ValueError: if an argument is out of range, or `negative_eigenvalues` is given without
            `delta_rule`.

    Numerics: S, beta, a and the norms of q and k are in float32 or better. The convolutions start
        uniform in +-K^-1/2.
    Cost: O(n D H E) for the linear maps and O(n H E^2) for the sums. The state has H E^2 numbers,
        and 3 (K - 1) H E for the convolutions. 5 D H E parameters and a few per head.
    Source: Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464); negative eigenvalues: Grazzi et al.
        2024, "Unlocking state-tracking in linear RNNs through negative eigenvalues".

    Example:
        >>> mixer = AssociativeAggregation(d_model=8, num_heads=2, head_dim=4)
        >>> u = torch.randn(1, 6, 8)
        >>> y, state = mixer(u[:, :4])
        >>> z, state = mixer(u[:, 4:], state=state)
        >>> torch.allclose(torch.cat([y, z], 1), mixer(u)[0], atol=1e-5)
        True
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 1,
        head_dim: int = 32,
        delta_rule: bool = True,
        decay: bool = True,
        negative_eigenvalues: bool = False,
        conv_kernel_size: int = 4,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_sizes(
            d_model=d_model,
            num_heads=num_heads,
            head_dim=head_dim,
            conv_kernel_size=conv_kernel_size,
        )
        if negative_eigenvalues and not delta_rule:
            raise ValueError("negative_eigenvalues=True: expected False without the delta rule")
        channels = num_heads * head_dim
        self.num_heads, self.head_dim, self.norm_eps = num_heads, head_dim, norm_eps
        self.max_beta = 2.0 if negative_eigenvalues else 1.0
        self.qkv = nn.Linear(d_model, 3 * channels, bias=False)
        self.convolution = ShortConvolution(3 * channels, conv_kernel_size, initial="uniform")
        self.beta = nn.Linear(d_model, num_heads, bias=False) if delta_rule else None
        self.decay = HeadDecay(d_model, num_heads) if decay else None
        self.norm = nn.RMSNorm(head_dim, eps=norm_eps)
        self.output_gate = nn.Linear(d_model, channels, bias=False)
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
                `MixerState.rollback`: as many as the row with the fewest tokens has. The tokens
                are then bound one at a time, and H E^2 numbers are kept for each. Not with packed
                documents.

        Returns:
            y, (B, N, D), and the state after the last token of each row.

        Raises:
            ValueError: if u has the wrong shape, if packed documents or rows that are cut over
                ranks are given a state, or if the layout is of a batch of another shape.
        """
        check_tokens("u", u, self.qkv.in_features)
        check_pieces(layout, state, return_history)
        x, conv_inputs = self.convolution(self.qkv(u), layout, state)
        conv_state = self.convolution.next_state(conv_inputs, layout)
        q, k, v = F.silu(x).unflatten(2, (3, self.num_heads, self.head_dim)).unbind(2)
        q, k = self._unit(q, self.head_dim**-0.5), self._unit(k)
        beta = None
        if self.beta is not None:
            beta = self.max_beta * torch.sigmoid(_widen(self.beta(u)))
        decay = None if self.decay is None else self.decay(u)
        tokens = dict(q=q, k=k, v=v, beta=beta, decay=decay)
        first, history = None if state is None else state.sums, None
        if return_history:
            if first is None:
                first = self._empty_state(u)
            o, sums, each = _read_each(tokens, layout, first)
            history = make_history(first.sums, each, conv_inputs, layout)
        else:
            o, sums = _read_pairs(tokens, layout, first)
        gate = F.silu(self.output_gate(u)).unflatten(2, (self.num_heads, self.head_dim))
        y = self.norm(o.to(u.dtype)) * gate
        return self.out(y.flatten(2)), MixerState(sums, conv_state, history)

    def _empty_state(self, u: Tensor) -> ops.State:
        shape = (len(u), self.num_heads, self.head_dim, self.head_dim)
        dtype = torch.promote_types(u.dtype, torch.float32)
        num_tokens = torch.zeros(len(u), dtype=torch.int64, device=u.device)
        return ops.State(u.new_zeros(shape, dtype=dtype), num_tokens)

    def _unit(self, x: Tensor, length: float = 1.0) -> Tensor:
        """x with a norm of `length`, per head."""
        wide = _widen(x)
        norm = (wide.square().sum(-1, keepdim=True) + self.norm_eps).rsqrt()
        return (wide * (norm * length)).to(x.dtype)


class HeadDecay(nn.Module):
    """Compute the factor by which the step to each token multiplies the sums of a head.

    a = exp(-A softplus(W u + b))

    Args:
        d_model: D.
        num_heads: H.

    Numerics: in float32 or better. A starts uniform in 1 to 16, and softplus(b) log-uniform in
        0.001 to 0.1. log A and b are not weights of a linear map, so that weight decay leaves them.
    Cost: O(n D H) time, (D + 2) H parameters.
    Source: Mamba-2 (Dao and Gu 2024, arXiv:2405.21060).

    Example:
        >>> HeadDecay(d_model=8, num_heads=2)(torch.randn(1, 5, 8)).shape
        torch.Size([1, 5, 2])
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, num_heads, bias=False)
        self.log_rate = nn.Parameter(torch.empty(num_heads))
        self.step_bias = nn.Parameter(torch.empty(num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values of log A and b."""
        with torch.no_grad():
            self.log_rate.uniform_(1, 16).log_()
            step = self.step_bias.uniform_(math.log(0.001), math.log(0.1)).exp()
            # The inverse of softplus.
            self.step_bias.copy_(step + (-torch.expm1(-step)).log())

    def forward(self, u: Float[Tensor, "B N D"]) -> Float[Tensor, "B N H"]:
        """Return the factors in (0, 1), (B, N, H)."""
        steps = F.softplus(_widen(self.linear(u)) + self.step_bias)
        return torch.exp(-_widen(self.log_rate).exp() * steps)


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _read_pairs(
    tokens: dict[str, Tensor | None], layout: Layout, state: ops.State | None
) -> tuple[Tensor, ops.State]:
    """The outputs of every sequence, (B, N, H, E), and the state after them."""
    return run_over_sequences(
        ops.associative, ops.associative_step, _sums_before, tokens, layout, state
    )


def _sums_before(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    decay: Tensor | None = None,
    *,
    group: dist.ProcessGroup,
) -> Tensor:
    """The sums of the pairs on the ranks before this one, (B, H, E, E).

    A piece maps the sums S before it to M S + S_0. The columns of values never mix, so one call
    computes S_0 from none before it, and M from the identity with values of zero.
    """
    batch, _, heads, size = v.shape
    dtype = torch.promote_types(v.dtype, torch.float32)
    identity = torch.eye(size, dtype=dtype, device=v.device).expand(batch, heads, size, size)
    first = torch.cat([torch.zeros_like(identity), identity], 3)
    num_tokens = torch.zeros(batch, dtype=torch.int64, device=v.device)
    _, piece = ops.associative(
        q,
        k,
        torch.cat([v, torch.zeros_like(v)], 3),
        beta=beta,
        decay=decay,
        initial_state=ops.State(first, num_tokens),
        return_state=True,
    )
    before = [torch.zeros_like(identity)]
    with without_autocast(v.device.type):
        for each in gather_pieces(piece.sums, group).unbind(1)[:-1]:
            own, factor = each.chunk(2, 3)
            before.append(factor @ before[-1] + own)
    return torch.stack(before)[group.rank()]


def _read_each(
    tokens: dict[str, Tensor | None], layout: Layout, state: ops.State
) -> tuple[Tensor, ops.State, Tensor]:
    """`_read_pairs` one token at a time, and the sums after each, (B, N, H, E, E)."""
    v = tokens["v"]
    assert v is not None
    n = v.shape[1]
    is_token = None
    if layout.lengths is not None:
        column, lengths = torch.arange(n, device=v.device), layout.lengths[:, None]
        is_token = column >= n - lengths if layout.padding == "left" else column < lengths
    outputs, sums = [v[:, :0]], [state.sums]
    for t in range(n):
        token = {name: None if x is None else x[:, t : t + 1] for name, x in tokens.items()}
        one = Layout(None if is_token is None else is_token[:, t].long())
        o, state = _read_pairs(token, one, state)
        outputs.append(o)
        sums.append(state.sums)
    return torch.cat(outputs, 1), state, torch.stack(sums, 1)[:, 1:]
