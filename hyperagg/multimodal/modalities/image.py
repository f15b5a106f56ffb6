"""Images as overlapping patches, or as single pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg.multimodal.modalities.base import Block, Modality, Tokens, random_positions

__all__ = ["ImagePatches"]


class ImagePatches(Modality):
    """Maps square image patches to tokens by a two-layer perceptron, with a vector per position.

    e_t = W_2 GELU(W_1 patch_t),  p_t learned, initialized from N(1, 1)

    Args:
        d_model: dimension D of the tokens.
        size: height and width of the images in pixels.
        channels: number of channels per pixel.
        patch_size: side of a patch in pixels; with 1 every pixel is a token.
        stride: distance of neighboring patches in pixels; patches overlap if it is less than
            `patch_size`.
        hidden_dim: width of the perceptron.
        num_blocks: number of `Block` layers before the sum, over the patches in row-major order.
        mean, std: of the training pixels, whose range is 0 to 1.

    Raises:
        ValueError: a patch is larger than the image.

    Cost: O(n (patch_size^2 hidden_dim + hidden_dim d)) for n patches, and O(n d) for the sum.

    >>> ImagePatches(8, (28, 28))(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        d_model: int,
        size: tuple[int, int],
        *,
        channels: int = 1,
        patch_size: int = 14,
        stride: int = 4,
        hidden_dim: int = 256,
        num_blocks: int = 0,
        mean: float = 0.5,
        std: float = 0.5,
    ) -> None:
        super().__init__()
        if min(size) < patch_size:
            raise ValueError(
                f"patch_size={patch_size}: expected at most {min(size)} for images of "
                f"{size[0]} × {size[1]} pixels"
            )
        self.patch_size, self.stride, self.mean, self.std = patch_size, stride, mean, std
        # One more patch where the last one would not reach the border.
        self.grid = tuple(-(-(side - patch_size) // stride) + 1 for side in size)
        self.padding = tuple(
            (count - 1) * stride + patch_size - side for count, side in zip(self.grid, size)
        )
        self.patch_projection = nn.Conv2d(channels, hidden_dim, patch_size, stride)  # W_1
        self.output_projection = nn.Linear(hidden_dim, d_model)
        self.blocks = nn.ModuleList(Block(d_model) for _ in range(num_blocks))
        self.positions = random_positions(d_model, self.grid[0] * self.grid[1])

    def tokens(self, images: Float[Tensor, "R channels height width"]) -> Tokens:
        """Return the patch tokens.

        Args:
            images: (R, channels, height, width) with pixels between 0 and 1.
        """
        x = (images - self.mean) / self.std
        if any(self.padding):
            x = F.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        hidden = F.gelu(self.patch_projection(x))
        e = self.output_projection(hidden.flatten(2).transpose(1, 2))
        for block in self.blocks:
            e = block(e)
        return Tokens(e, self.positions(e.shape[1]))

    def patch_origins(self) -> Float[Tensor, "N two"]:
        """Return the row and the column of the first pixel of each patch, (N, 2)."""
        rows, columns = (torch.arange(n) * self.stride for n in self.grid)
        return torch.cartesian_prod(rows, columns).float()
