"""Position vectors p_t: factors that mark the position of each token.

All of them except the sinusoids start near one, so that e_t * p_t starts near e_t. The product of
two small tables would start near 1e-3 and train slowly.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.layers._validation import check_sizes

__all__ = ["BlockPositions", "LearnedPositions", "SinusoidalPositions", "position_blocks"]


class LearnedPositions(nn.Module):
    """Learn one free vector per position.

    p_t = 1 + delta_t,  delta_t ~ N(0, init_stddev^2) at initialization

    Args:
        d_model: D, the dimension of the tokens, an integer >= 1.
        max_length: number of positions, an integer >= 1.
        init_stddev: standard deviation of delta_t at initialization (default: 0.02).

    Raises:
        ValueError: if `d_model` or `max_length` is below 1.

    Cost: max_length * D parameters.

    Example:
        >>> LearnedPositions(d_model=8, max_length=16)(5).shape
        torch.Size([5, 8])
    """

    def __init__(self, d_model: int, max_length: int, init_stddev: float = 0.02) -> None:
        super().__init__()
        check_sizes(d_model=d_model, max_length=max_length)
        self.weight = nn.Parameter(1 + init_stddev * torch.randn(max_length, d_model))

    def forward(self, n: int) -> Float[Tensor, "{n} D"]:
        """Return the vectors of the first n positions, (n, D).

        Raises:
            ValueError: if n exceeds `max_length`.
        """
        _check_length(n, len(self.weight))
        return self.weight[:n]


class SinusoidalPositions(nn.Module):
    """Use sines and cosines of decreasing frequency as multiplicative position vectors.

    p_{t, 2k} = sin(t / 10000^(2k/D)),  p_{t, 2k+1} = cos(t / 10000^(2k/D))

    Args:
        d_model: D, an integer >= 1.
        max_length: number of positions, an integer >= 1.
        trainable: whether the table is a parameter, which starts at the sinusoids (default), or a
            constant buffer.

    Raises:
        ValueError: if `d_model` or `max_length` is below 1.

    Numerics: the table is computed in float64 and stored in float32.
    Cost: max_length * D numbers.
    Source: Vaswani et al. 2017, "Attention is all you need", section 3.5. Ekin (2025) multiplies
        by the table instead of adding it, and trains it.

    Example:
        >>> SinusoidalPositions(d_model=4, max_length=16)(1)
        tensor([[0., 1., 0., 1.]], grad_fn=<SliceBackward0>)
    """

    weight: Tensor

    def __init__(self, d_model: int, max_length: int, trainable: bool = True) -> None:
        super().__init__()
        check_sizes(d_model=d_model, max_length=max_length)
        position = torch.arange(max_length, dtype=torch.float64)[:, None]
        channel = torch.arange(d_model)
        angle = position / 10_000 ** (2 * (channel // 2) / d_model)
        table = torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
        if trainable:
            self.weight = nn.Parameter(table)
        else:
            self.register_buffer("weight", table)

    def forward(self, n: int) -> Float[Tensor, "{n} D"]:
        """Return the vectors of the first n positions, (n, D).

        Raises:
            ValueError: if n exceeds `max_length`.
        """
        _check_length(n, len(self.weight))
        return self.weight[:n]


class BlockPositions(nn.Module):
    """Learn one vector per block of positions, where each block is twice as long as the last.

    p_t = 1 + delta_k,  k = min(floor(log2(t + 1)), num_blocks - 1)

    The blocks are the positions 0, 1-2, 3-6, 7-14 and so on; the last block has no end. The block
    of a token is known when the token arrives, whatever the length of the document. Sixteen
    vectors distinguish the positions of any document to within a factor of two, and few documents
    suffice to learn them.

    Args:
        d_model: D, an integer >= 1.
        num_blocks: number of vectors, an integer >= 1 (default: 16).

    Raises:
        ValueError: if `d_model` or `num_blocks` is below 1.

    Cost: num_blocks * D parameters.

    Example:
        >>> BlockPositions(d_model=8)(1000).shape
        torch.Size([1000, 8])
    """

    def __init__(self, d_model: int, num_blocks: int = 16) -> None:
        super().__init__()
        check_sizes(d_model=d_model, num_blocks=num_blocks)
        self.weight = nn.Parameter(torch.ones(num_blocks, d_model))

    def forward(self, n: int) -> Float[Tensor, "{n} D"]:
        """Return the vectors of the first n positions, (n, D), for any n."""
        return self.weight[position_blocks(n, len(self.weight))]


def position_blocks(n: int, num_blocks: int) -> Int[Tensor, " {n}"]:
    """Return the block of each of the first n positions.

    block_t = min(floor(log2(t + 1)), num_blocks - 1)

    Args:
        n: number of positions.
        num_blocks: number of blocks.

    Returns:
        (n,) int64.

    Numerics: the blocks are built from integer powers of two, because a floating-point logarithm
        may round to the wrong side of a power of two.
    Cost: O(n).

    Example:
        >>> position_blocks(9, num_blocks=16)
        tensor([0, 1, 1, 2, 2, 2, 2, 3, 3])
    """
    lengths = torch.tensor([1 << k for k in range(max(1, n.bit_length()))])
    return torch.arange(len(lengths)).repeat_interleave(lengths)[:n].clamp(max=num_blocks - 1)


def _check_length(n: int, max_length: int) -> None:
    if n > max_length:
        raise ValueError(
            f"n={n}: expected at most max_length={max_length} positions; increase max_length, or "
            "use BlockPositions, which accept any length"
        )
