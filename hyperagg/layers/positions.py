"""Position vectors p_t: what a token's vector is multiplied by to say where it stood.

All of them start near one, so that e_t * p_t starts near e_t. (Multiplying two small tables
instead gives products near 1e-3 and a slow start.)
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["BlockPositions", "LearnedPositions", "SinusoidalPositions", "position_blocks"]


class LearnedPositions(nn.Module):
    """One free vector a place: p_t = 1 + delta_t, delta_t ~ N(0, init_stddev^2).

    Args:
        d_model: D, the dimension of the tokens.
        max_length: places there are vectors for; asking for more raises ValueError.
        init_stddev: deviation of delta at the start.
    """

    def __init__(self, d_model: int, max_length: int, init_stddev: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + init_stddev * torch.randn(max_length, d_model))

    def forward(self, n: int) -> Float[Tensor, "{n} D"]:
        """(n, D): the vectors of the first n places."""
        _check_length(n, len(self.weight))
        return self.weight[:n]


class SinusoidalPositions(nn.Module):
    """Sines and cosines of falling frequency, as in transformers, used as factors.

    p_{t, 2k} = sin(t / 10000^(2k/D)),  p_{t, 2k+1} = cos(t / 10000^(2k/D))

    Args:
        d_model: D.
        max_length: places there are vectors for.
        trainable: the table is only a start and is learned on, as in the source's benchmarks.

    Source: Vaswani et al. 2017, "Attention is all you need", section 3.5; used as a factor and
    trained by the source document.
    """

    weight: Tensor

    def __init__(self, d_model: int, max_length: int, trainable: bool = True) -> None:
        super().__init__()
        place = torch.arange(max_length, dtype=torch.float64)[:, None]
        channel = torch.arange(d_model)
        angle = place / 10_000 ** (2 * (channel // 2) / d_model)
        table = torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
        if trainable:
            self.weight = nn.Parameter(table)
        else:
            self.register_buffer("weight", table)

    def forward(self, n: int) -> Float[Tensor, "{n} D"]:
        """(n, D): the vectors of the first n places."""
        _check_length(n, len(self.weight))
        return self.weight[:n]


class BlockPositions(nn.Module):
    """Blocks of doubling length share a vector: p_t = 1 + delta_{floor(log2(t + 1))}.

    Place 0 is a block, places 1-2 the next, then 3-6, 7-14 and so on; the last of `blocks` has no
    end. The block of a token is known when the token arrives, however long the document will be,
    and 16 vectors tell the places of any document apart to a factor of two, so that few documents
    are enough to learn them.

    Args:
        d_model: D.
        blocks: how many vectors there are.
    """

    def __init__(self, d_model: int, blocks: int = 16) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(blocks, d_model))

    def forward(self, n: int) -> Float[Tensor, "{n} D"]:
        """(n, D): the vectors of the first n places; any n."""
        return self.weight[position_blocks(n, len(self.weight))]


def position_blocks(n: int, blocks: int) -> Int[Tensor, " {n}"]:
    """(n,) int64: min(floor(log2(t + 1)), blocks - 1) for t = 0 ... n - 1.

    Whole-number doubling rather than a logarithm, which may round the wrong way at a power of two.
    """
    lengths = torch.tensor([1 << k for k in range(max(1, n.bit_length()))])
    return torch.arange(len(lengths)).repeat_interleave(lengths)[:n].clamp(max=blocks - 1)


def _check_length(n: int, max_length: int) -> None:
    if n > max_length:
        raise ValueError(
            f"n={n}: there are positions for {max_length} places only; raise max_length, "
            "or use BlockPositions, which have no end"
        )
