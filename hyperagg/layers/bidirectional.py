"""The mixer of sequences that are known as a whole, such as images and audio."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers._validation import check_sizes, check_tokens
from hyperagg.layers.recurrences import FORMS, ScanInputs, make_recurrence
from hyperagg.ops import Causal

__all__ = ["BidirectionalAggregation"]

BIDIRECTIONAL_FORMS = tuple(form for form in FORMS if form != "prefix_sum")


class BidirectionalAggregation(nn.Module):
    """Sum all tokens at every position, with separate weights for those before and after it.

    context_i = sum_{t <= i} v_t * p(t, i) + sum_{t >= i} v_t * q(t, i),  v = W_v u
    y_i       = W_o RMSNorm(context_i)

    Args:
        d_model: D, an integer >= 1; even for "complex_decay".
        form: the form of p and q, each with its own parameters: "gated" (default), "decay" or
            "complex_decay", as in `CausalAggregation`. The form "prefix_sum" is excluded: its
            weights do not depend on i, so that both directions would be the same sum.
        norm_eps: epsilon of RMSNorm (default: 1e-6).

    Raises:
        ValueError: if `form` is unknown or "prefix_sum".

    Numerics: sums in float32 or better.
    Cost: O(n d^2) for the linear maps and O(n d) for the sums. The form "gated" has 4 D^2
        parameters, as many as attention.

    Example:
        >>> import torch
        >>> BidirectionalAggregation(d_model=8)(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, d_model: int, form: str = "gated", *, norm_eps: float = 1e-6) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        if form not in BIDIRECTIONAL_FORMS:
            raise ValueError(f"form={form!r}: expected one of {', '.join(BIDIRECTIONAL_FORMS)}")
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.forward_recurrence = make_recurrence(form, d_model, d_model)
        self.backward_recurrence = make_recurrence(form, d_model, d_model)
        self.norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values of the linear maps W_v and W_o."""
        for linear in (self.value, self.out):
            nn.init.normal_(linear.weight, 0.0, linear.in_features**-0.5)

    def forward(
        self, u: Float[Tensor, "B N D"], lengths: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Mix the tokens of each row.

        Args:
            u: (B, N, D).
            lengths: (B,) number of tokens per row. The positions to the right of them are padding:
                they take part in no sum, and their output is undefined.

        Returns:
            (B, N, D).

        Raises:
            ValueError: if an argument has the wrong shape.
        """
        check_tokens("u", u, self.value.in_features)
        v, n = self.value(u), u.shape[1]
        before = _causal_sum(self.forward_recurrence(u, v, n), lengths, "right")
        x, p, decay, gate = self.backward_recurrence(u, v, n)
        flipped = ScanInputs(x.flip(1), p, decay, None if gate is None else gate.flip(1))
        after = _causal_sum(flipped, lengths, "left").flip(1)
        return self.out(self.norm((before + after).to(u.dtype)))


def _causal_sum(inputs: ScanInputs, lengths: Tensor | None, padding: ops.Padding) -> Tensor:
    return ops.aggregate(
        inputs.x,
        inputs.p,
        mask=Causal(),
        lengths=lengths,
        padding=padding,
        decay=inputs.decay,
        gate=inputs.gate,
    )
