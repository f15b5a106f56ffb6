"""The aggregation layer: project, multiply by positions, sum, add noise."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers._validation import check_sizes, check_tokens
from hyperagg.layers.positions import LearnedPositions, SinusoidalPositions
from hyperagg.ops import Causal, Full, Mask

__all__ = ["Aggregation"]


class Aggregation(nn.Module):
    """Sum projected token vectors that are multiplied by position vectors.

    y_i = sum_t w_it (W x_t) * p_t / n_i^a  +  noise

    w_it in {0, 1} is the mask and n_i = sum_t w_it.

    Args:
        d_model: D, the dimension of the tokens in and out, an integer >= 1.
        projection: whether to apply a linear map W without bias (default: True). When there are no
            positions and the output is pooled, W is applied after the sum, where it is cheaper and
            gives the same result: W (sum x_t) = sum W x_t.
        noise_stddev: standard deviation of the Gaussian noise that is added to the sum in training
            mode (default: 0).
        positions: "learned", "sinusoidal" (trainable) or None (default).
        max_length: number of position vectors; required if `positions` is not None.
        normalize: "none" (default), "sqrt" or "mean": divide each sum by 1, by the square root of
            the number of its tokens, or by that number.
        count_padding: whether to sum padding as if it were text, as the benchmarks of Ekin (2025)
            do. By default the positions beyond `lengths` are never summed.

    Raises:
        ValueError: if an argument is out of range or unknown, or if `max_length` is missing.

    Numerics: sums in float32 or better.
    Cost: O(n d + d^2) for a pooled output without positions, O(n d^2) with a projection before the
        sum, O(n d) without a projection; O(n^2 d) only for a dense mask.
    Source: the `Aggregation` layer of Ekin (2025), with its behavior and defaults.

    Example:
        >>> layer = Aggregation(d_model=8, positions="learned", max_length=16)
        >>> x = torch.randn(2, 5, 8)
        >>> layer(x).shape, layer(x, mask="causal").shape
        (torch.Size([2, 1, 8]), torch.Size([2, 5, 8]))
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
        check_sizes(d_model=d_model)
        if not noise_stddev >= 0:
            raise ValueError(f"noise_stddev={noise_stddev}: expected a number >= 0")
        if normalize not in ("none", "sqrt", "mean"):
            raise ValueError(f"normalize={normalize!r}: expected one of none, sqrt, mean")
        self.d_model = d_model
        self.noise_stddev = noise_stddev
        self.normalize = normalize
        self.count_padding = count_padding
        self.projection = nn.Linear(d_model, d_model, bias=False) if projection else None
        self.positions = _make_positions(positions, d_model, max_length)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Mask | Float[Tensor, "_ N N"] | str | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B _ D"]:
        """Aggregate a batch of token vectors.

        Args:
            x: (B, N, D), floating point.
            mask: None sums all tokens of a row into one vector. "causal", a mask of
                `hyperagg.ops.masks` or a dense (B, N, N) tensor selects what each position sums.
            lengths: (B,) number of tokens per row; the rest of a row is padding.

        Returns:
            (B, 1, D) without a mask or with a pooled one, else (B, N, D).

        Raises:
            ValueError: if an argument has the wrong shape, or if `mask` is an unknown name.
        """
        check_tokens("x", x, self.d_model)
        if isinstance(mask, str) and mask != "causal":
            raise ValueError(f"mask={mask!r}: expected 'causal', a Mask, a tensor or None")
        if mask is None:
            mask = Full()
        elif isinstance(mask, str):
            mask = Causal()
        p = None if self.positions is None else self.positions(x.shape[1])
        # Linear maps and sums commute; the element-wise factors p do not commute with W.
        project_sum = p is None and isinstance(mask, Mask) and mask.pooled
        if self.projection is not None and not project_sum:
            x = self.projection(x)
        y = ops.aggregate(
            x,
            p,
            mask=mask,
            lengths=None if self.count_padding else lengths,
            normalize=self.normalize,
        )
        if self.projection is not None and project_sum:
            y = self.projection(y)
        if self.training and self.noise_stddev:
            y = y + self.noise_stddev * torch.randn_like(y)
        return y

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, noise_stddev={self.noise_stddev}"


def _make_positions(
    name: str | None, d_model: int, max_length: int | None
) -> LearnedPositions | SinusoidalPositions | None:
    if name is None:
        return None
    if name not in ("learned", "sinusoidal"):
        raise ValueError(f"positions={name!r}: expected one of learned, sinusoidal or None")
    if max_length is None:
        raise ValueError(f"max_length=None: expected an integer >= 1 for positions={name!r}")
    if name == "learned":
        return LearnedPositions(d_model, max_length)
    return SinusoidalPositions(d_model, max_length)
