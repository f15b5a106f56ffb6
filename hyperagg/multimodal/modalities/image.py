"""Pictures as overlapping patches, or as single pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg.multimodal.modalities.base import Block, Modality, Tokens, spread_positions

__all__ = ["ImagePatches"]


class ImagePatches(Modality):
    """Square patches, each through a small perceptron, each place with a vector of its own.

    e_t = W_2 GELU(W_1 patch_t),  p_t learned, from N(1, 1) on

    Args:
        d_model: D.
        size: height and width of the pictures.
        channels: of a pixel.
        patch: side of a patch; 1 makes raw pixels tokens.
        stride: from a patch to the next; less than `patch` lets them overlap.
        hidden: width of the perceptron.
        blocks: of `Block` before the sum, over the patches row by row.
        mean, deviation: of the training pixels, which are between 0 and 1.

    Raises:
        ValueError: a patch larger than the picture.

    Cost: O(n (patch^2 hidden + hidden d)) for n patches, and O(n d) for the sum.
    """

    def __init__(
        self,
        d_model: int,
        size: tuple[int, int],
        *,
        channels: int = 1,
        patch: int = 14,
        stride: int = 4,
        hidden: int = 256,
        blocks: int = 0,
        mean: float = 0.5,
        deviation: float = 0.5,
    ) -> None:
        super().__init__()
        if min(size) < patch:
            raise ValueError(f"patch={patch}: larger than a picture of {size[0]} × {size[1]}")
        self.patch, self.stride, self.mean, self.deviation = patch, stride, mean, deviation
        # One place more where the last patch would not reach the border.
        self.grid = tuple(-(-(side - patch) // stride) + 1 for side in size)
        self.padding = tuple(
            (places - 1) * stride + patch - side for places, side in zip(self.grid, size)
        )
        self.first = nn.Conv2d(channels, hidden, patch, stride)  # W_1 on every patch
        self.second = nn.Linear(hidden, d_model)
        self.blocks = nn.ModuleList(Block(d_model) for _ in range(blocks))
        self.positions = spread_positions(d_model, self.grid[0] * self.grid[1])

    def tokens(self, images: Float[Tensor, "R channels height width"]) -> Tokens:
        """Of pictures (R, channels, height, width) with pixels between 0 and 1."""
        x = (images - self.mean) / self.deviation
        if any(self.padding):
            x = F.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        e = self.second(F.gelu(self.first(x)).flatten(2).transpose(1, 2))
        for block in self.blocks:
            e = block(e)
        return Tokens(e, self.positions(e.shape[1]))

    def corners(self) -> Float[Tensor, "N two"]:
        """(N, 2): row and column of the first pixel of each patch."""
        rows, columns = (torch.arange(n) * self.stride for n in self.grid)
        return torch.cartesian_prod(rows, columns).float()
