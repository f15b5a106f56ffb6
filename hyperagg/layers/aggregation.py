"""The aggregation layer: project, multiply by positions, sum, add noise."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers.positions import LearnedPositions, SinusoidalPositions
from hyperagg.ops.masks import Causal, Full, Mask

__all__ = ["Aggregation"]


class Aggregation(nn.Module):
    """Sum of projected token vectors times position vectors.

    y_i = sum_t w_it (W x_t) * p_t / n_i^a  +  noise

    Args:
        d_model: D, the dimension of the tokens in and out.
        projection: a bias-free linear map W. Without positions it stands after the sum when that
            is the cheaper side: W (sum x_t) = sum W x_t.
        noise_stddev: deviation of the Gaussian noise added to the sum, in training only.
        positions: "learned" around one, "sinusoidal" (trainable), or None. With positions,
            `max_length` says how many places there are.
        normalize: divide each sum by 1 ("none"), the root of the number of its tokens ("sqrt"),
            or that number ("mean").
        count_padding: sum padding as if it were text, as the source's benchmarks do. Otherwise the
            tokens past `lengths` are never summed.

    Raises:
        ValueError: positions without max_length, or a name that is not known.

    Numerics: sums in float32 or better. Cost: O(n d + d^2) pooled without positions, O(n d^2) with
        a projection before the sum, O(n d) without projection; O(n^2 d) only for a dense mask.
    Source: the source document's `Aggregation` layer, whose behaviour and defaults these are.
    """

    def __init__(
        self,
        d_model: int,
        projection: bool = True,
        noise_stddev: float = 0.0,
        *,
        positions: str | None = None,
        max_length: int | None = None,
        normalize: ops.Normalize = "none",
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        if d_model < 1:
            raise ValueError(f"d_model={d_model}: give at least 1")
        if noise_stddev < 0:
            raise ValueError(f"noise_stddev={noise_stddev}: a deviation cannot be negative")
        self.d_model = d_model
        self.noise_stddev = noise_stddev
        self.normalize = normalize
        self.count_padding = count_padding
        self.projection = nn.Linear(d_model, d_model, bias=False) if projection else None
        self.positions = _positions(positions, d_model, max_length)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Mask | Float[Tensor, "_ N N"] | str | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B _ D"]:
        """Aggregate (B, N, D) tokens.

        Args:
            x: (B, N, D), floating point.
            mask: None sums all tokens into one place; "causal", a mask of `hyperagg.ops.masks` or a
                dense (B, N, N) tensor says what each place sums.
            lengths: (B,) tokens of each row; what follows is padding.

        Returns:
            (B, 1, D) without a mask (or with a pooled one), (B, N, D) with one.
        """
        if isinstance(mask, str) and mask != "causal":
            raise ValueError(f"mask={mask!r}: the only mask with a name is 'causal'")
        if mask is None:
            mask = Full()
        elif isinstance(mask, str):
            mask = Causal()
        p = None if self.positions is None else self.positions(x.shape[1])
        # Linear maps and sums commute; element-wise factors in between do not.
        after = p is None and isinstance(mask, Mask) and mask.pooled
        if self.projection is not None and not after:
            x = self.projection(x)
        y = ops.aggregate(
            x,
            p,
            mask=mask,
            lengths=None if self.count_padding else lengths,
            normalize=self.normalize,
        )
        if self.projection is not None and after:
            y = self.projection(y)
        if self.training and self.noise_stddev:
            y = y + self.noise_stddev * torch.randn_like(y)
        return y

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, noise_stddev={self.noise_stddev}"


def _positions(
    kind: str | None, d_model: int, max_length: int | None
) -> LearnedPositions | SinusoidalPositions | None:
    if kind is None:
        return None
    if max_length is None:
        raise ValueError(f"max_length: positions={kind!r} need to know how many places there are")
    if kind == "learned":
        return LearnedPositions(d_model, max_length)
    if kind == "sinusoidal":
        return SinusoidalPositions(d_model, max_length)
    raise ValueError(f"positions={kind!r}: there are 'learned', 'sinusoidal' and None")
