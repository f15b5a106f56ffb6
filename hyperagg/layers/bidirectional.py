"""The mixer of pictures, sounds and other sequences that are there as a whole."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers.recurrences import ComplexDecay, ConstantDecay, InputGate, Terms
from hyperagg.ops.masks import Causal

__all__ = ["BidirectionalAggregation"]


class BidirectionalAggregation(nn.Module):
    """Every place's sum of all tokens, those before and those after it weighed apart.

    context_i = sum_{t <= i} v_t * p(t, i) + sum_{t >= i} v_t * q(t, i),  v = W_v u
    y_i       = W_o RMSNorm(context_i)

    Args:
        d_model: D.
        form: what p and q are made of, with weights of their own: "gated", "decay" or "complex_decay",
            as in `CausalAggregation`.
        norm_eps: of RMSNorm.

    Raises:
        ValueError: an unknown form; "prefix_sum" weighs a token the same from everywhere, so it has no
            two ways.

    Numerics: sums in float32 or better. Cost: O(n d^2) for the linear maps and O(n d) for the sums;
        4 D^2 weights with gates, as many as attention has.
    """

    def __init__(self, d_model: int, form: str = "gated", *, norm_eps: float = 1e-6) -> None:
        super().__init__()
        relations = {"gated": InputGate, "decay": ConstantDecay, "complex_decay": ComplexDecay}
        if form not in relations:
            raise ValueError(f"form={form!r}: there are {', '.join(relations)} for both ways")
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.forwards = relations[form](d_model)
        self.backwards = relations[form](d_model)
        self.norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for linear in (self.value, self.out):
            nn.init.normal_(linear.weight, 0.0, linear.in_features**-0.5)

    def forward(
        self, u: Float[Tensor, "B N D"], lengths: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """y of tokens u (B, N, D).

        Args:
            u: (B, N, D).
            lengths: (B,) tokens of each row; what stands to the right of them is padding, takes
                part in no sum, and gets an output that means nothing.
        """
        v, n = self.value(u), u.shape[1]
        before = _sum(self.forwards(u, v, n), lengths, "right")
        x, p, decay, gate = self.backwards(u, v, n)
        turned = Terms(x.flip(1), p, decay, None if gate is None else gate.flip(1))
        after = _sum(turned, lengths, "left").flip(1)
        return self.out(self.norm((before + after).to(u.dtype)))


def _sum(terms: Terms, lengths: Tensor | None, padding: ops.Padding) -> Tensor:
    return ops.aggregate(
        terms.x,
        terms.p,
        mask=Causal(),
        lengths=lengths,
        padding=padding,
        decay=terms.decay,
        gate=terms.gate,
    )
