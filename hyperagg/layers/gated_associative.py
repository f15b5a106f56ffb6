"""The mixer that has both: gated sums, and bound pairs that recall, side by side."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg.layers.associative import AssociativeAggregation
from hyperagg.layers.batch_layout import Layout
from hyperagg.layers.causal import CausalAggregation, MixerState, StateHistory
from hyperagg.ops import State

__all__ = ["GatedAssociativeAggregation"]


class GatedAssociativeAggregation(nn.Module):
    """Add what gated sums and bound pairs make of the same tokens.

    y = CausalAggregation(u) + AssociativeAggregation(u)

    The gated sums keep a number per channel, and the pairs find by their keys what a channel cannot
    keep.

    Args:
        d_model: D, an integer >= 1.
        expand, output_gate: of the gated sums, see `CausalAggregation`.
        num_heads, head_dim, negative_eigenvalues: H, E and the range of beta of the pairs, see
            `AssociativeAggregation`.
        conv_kernel_size: K of both; 0 (default) for no convolution before the gated sums and K = 4
            in the pairs.
        norm_eps: epsilon of the norms (default: 1e-6).

    Raises:
        ValueError: if an argument is out of range.

    Numerics: as both.
    Cost: that of both. The state has the sums of the gate, and then those of the pairs, one after
        the other: expand D + H E^2 numbers, and (K - 1) 3 H E inputs of the convolutions, behind
        (K - 1) D of that before the gated sums if there is one.

    Example:
        >>> mixer = GatedAssociativeAggregation(d_model=8, num_heads=2, head_dim=4)
        >>> u = torch.randn(1, 6, 8)
        >>> y, state = mixer(u[:, :4])
        >>> z, state = mixer(u[:, 4:], state=state)
        >>> torch.allclose(torch.cat([y, z], 1), mixer(u)[0], atol=1e-5)
        True
        >>> state.sums.sums.shape
        torch.Size([1, 40])
    """

    def __init__(
        self,
        d_model: int,
        *,
        expand: int = 1,
        output_gate: bool = False,
        num_heads: int = 1,
        head_dim: int = 32,
        negative_eigenvalues: bool = False,
        conv_kernel_size: int = 0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.gated = CausalAggregation(
            d_model,
            expand=expand,
            output_gate=output_gate,
            conv_kernel_size=conv_kernel_size,
            norm_eps=norm_eps,
        )
        self.associative = AssociativeAggregation(
            d_model,
            num_heads=num_heads,
            head_dim=head_dim,
            negative_eigenvalues=negative_eigenvalues,
            conv_kernel_size=conv_kernel_size or 4,
            norm_eps=norm_eps,
        )

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
                `MixerState.rollback`.

        Returns:
            y, (B, N, D), and the state after the last token of each row.

        Raises:
            ValueError: if u has the wrong shape, if packed documents or rows that are cut over
                ranks are given a state, or if the layout is of a batch of another shape.
        """
        of_gated, of_pairs = (None, None) if state is None else self._split(state)
        y, gated = self.gated(u, layout, of_gated, return_history)
        z, pairs = self.associative(u, layout, of_pairs, return_history)
        return y + z, _joined(gated, pairs)

    def _split(self, state: MixerState) -> tuple[MixerState, MixerState]:
        """The states of both mixers in a state of this one."""
        (sums, num_tokens), inputs = state.sums, state.conv_state
        channels, heads = self.gated.value.out_features, self.associative.num_heads
        size = self.associative.head_dim
        pairs = sums[:, channels:].unflatten(1, (heads, size, size))
        of_gated = None
        if self.gated.convolution is not None and inputs is not None:
            widths = [self.gated.value.in_features, 3 * heads * size]
            of_gated, inputs = inputs.split(widths, 2)
        return (
            MixerState(State(sums[:, :channels], num_tokens), of_gated),
            MixerState(State(pairs, num_tokens), inputs),
        )


def _joined(gated: MixerState, pairs: MixerState) -> MixerState:
    """One state that holds both."""
    sums = torch.cat([gated.sums.sums, pairs.sums.sums.flatten(1)], 1)
    history = None
    if gated.history is not None and pairs.history is not None:
        history = StateHistory(
            torch.cat([gated.history.sums, pairs.history.sums.flatten(2)], 2),
            _side_by_side(gated.history.conv_inputs, pairs.history.conv_inputs),
        )
    inputs = _side_by_side(gated.conv_state, pairs.conv_state)
    return MixerState(State(sums, gated.sums.num_tokens), inputs, history)


def _side_by_side(gated: Tensor | None, pairs: Tensor | None) -> Tensor | None:
    return pairs if gated is None or pairs is None else torch.cat([gated, pairs], 2)
