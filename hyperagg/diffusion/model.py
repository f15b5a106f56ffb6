"""The denoiser of a diffusion process as a transformer-like model over image patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg._common.validation import check_choice, check_integer
from hyperagg.layers import BidirectionalAggregation
from hyperagg.layers.attention import SelfAttention

__all__ = ["MIXERS", "Denoiser"]

MIXERS = ("aggregation", "attention")
# Bounds of the arguments, which may come from a file.
LIMITS = {
    "sample_size": (1, 8192),
    "in_channels": (1, 64),
    "patch_size": (1, 8192),
    "num_classes": (1, 10**6),
    "d_model": (2, 2**16),
    "num_layers": (1, 1000),
    "num_heads": (1, 2**16),
}


class Denoiser(ModelMixin, ConfigMixin):
    """Predicts the target of a diffusion process from a noisy image, its timestep and its class.

    Patches become tokens with learned position embeddings. With c the embedding of timestep and
    class, and shift, scale and gate linear maps of c, each of L blocks computes

        x += gate_1 * mix(norm(x) (1 + scale_1) + shift_1)
        x += gate_2 * W_2 GELU(W_1 (norm(x) (1 + scale_2) + shift_2))

    where all gates start at zero. With `mixer="aggregation"`, blocks aggregate bidirectionally
    along the rows of patches and along the columns of patches in alternation; with "attention",
    every block attends to all patches.

    Args:
        sample_size: height and width of the images, in pixels.
        in_channels: number of channels: 1 for grayscale, 3 for RGB.
        patch_size: height and width of a patch, in pixels; divides `sample_size`.
        num_classes: C. Class C is "no class"; it is learned from images whose label is dropped.
        d_model: D.
        num_layers: L.
        mixer: "aggregation", gated bidirectional sums, or "attention", whose number of
            parameters differs by less than one percent.
        num_heads: number of attention heads; divides `d_model`. Used by "attention" only.

    Raises:
        TypeError: a size that is not an integer.
        ValueError: a size that is out of range or does not divide, or an unknown mixer.

    Numerics: sums accumulate in float32 or better. Cost: O(n D^2) per block for n patches, with
        attention O(n^2 D) in addition; 18 D^2 parameters per block.
    Source: Peebles and Xie 2023, "Scalable diffusion models with transformers", for the block.

    >>> denoiser = Denoiser(d_model=16, num_layers=2)
    >>> denoiser(torch.randn(2, 1, 28, 28), torch.tensor(500), torch.tensor([3, 7])).shape
    torch.Size([2, 1, 28, 28])
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 28,
        in_channels: int = 1,
        patch_size: int = 4,
        num_classes: int = 10,
        d_model: int = 64,
        num_layers: int = 6,
        mixer: str = "aggregation",
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        sizes = (sample_size, in_channels, patch_size, num_classes, d_model, num_layers, num_heads)
        for (name, limits), size in zip(LIMITS.items(), sizes):
            check_integer(name, size, *limits)
        check_choice("mixer", mixer, MIXERS)
        if sample_size % patch_size:
            raise ValueError(f"patch_size={patch_size}: expected a divisor of {sample_size=}")
        if mixer == "attention" and d_model % num_heads:
            raise ValueError(f"num_heads={num_heads}: expected a divisor of {d_model=}")
        patches_per_side = sample_size // patch_size
        patch_dim = in_channels * patch_size**2
        self.patch_embedding = nn.Linear(patch_dim, d_model)
        self.row_positions = nn.Parameter(0.5 * torch.randn(patches_per_side, 1, d_model))
        self.column_positions = nn.Parameter(0.5 * torch.randn(1, patches_per_side, d_model))
        self.timestep_features = Timesteps(d_model, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.timestep_embedding = TimestepEmbedding(d_model, d_model)
        self.class_embedding = nn.Embedding(num_classes + 1, d_model)
        self.blocks = nn.ModuleList(
            _Block(d_model, mixer, num_heads, by_columns=bool(layer % 2))
            for layer in range(num_layers)
        )
        self.norm_out = _AdaptiveNorm(d_model, num_parts=2)
        self.proj_out = nn.Linear(d_model, patch_dim)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self,
        sample: Float[Tensor, "B channels height width"],
        timestep: Int[Tensor, " B"] | Int[Tensor, ""],
        class_labels: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B channels height width"]:
        """Predict the target for noisy images.

        Args:
            sample: (B, channels, height, width).
            timestep: (B,), or a scalar for all images.
            class_labels: (B,) from 0 to C, where C is "no class"; None: C for all images.

        Returns:
            (B, channels, height, width).
        """
        c = self._condition(timestep.expand(len(sample)), class_labels)
        x = self.patch_embedding(_to_patches(sample, self.config.patch_size))
        x = x + self.row_positions + self.column_positions
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.norm_out.parts(c)
        return _from_patches(self.proj_out(self.norm_out(x, shift, scale)), self.config.patch_size)

    def _condition(
        self, timestep: Int[Tensor, " B"], class_labels: Int[Tensor, " B"] | None
    ) -> Float[Tensor, "B D"]:
        """The embedding c of timestep and class."""
        if class_labels is None:
            class_labels = torch.full_like(timestep, self.config.num_classes)
        features = self.timestep_features(timestep).to(self.class_embedding.weight.dtype)
        return F.silu(self.timestep_embedding(features) + self.class_embedding(class_labels))


class _Block(nn.Module):
    """A mixer and a feed-forward layer, each after an adaptive norm."""

    def __init__(self, d_model: int, mixer: str, num_heads: int, by_columns: bool) -> None:
        super().__init__()
        self.norm = _AdaptiveNorm(d_model, num_parts=6)
        self.is_attention, self.by_columns = mixer == "attention", by_columns
        self.mixer: nn.Module
        if self.is_attention:
            self.mixer = SelfAttention(d_model, num_heads)
        else:
            self.mixer = BidirectionalAggregation(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * d_model, d_model),
        )

    def forward(
        self, x: Float[Tensor, "B rows columns D"], c: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B rows columns D"]:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.norm.parts(c)
        x = x + gate_1 * self.mix(self.norm(x, shift_1, scale_1))
        return x + gate_2 * self.feed_forward(self.norm(x, shift_2, scale_2))

    def mix(self, u: Float[Tensor, "B rows columns D"]) -> Float[Tensor, "B rows columns D"]:
        if self.is_attention:
            return self.mixer(u.flatten(1, 2)).view(u.shape)
        if self.by_columns:
            u = u.transpose(1, 2)
        y = self.mixer(u.flatten(0, 1)).view(u.shape)
        return y.transpose(1, 2) if self.by_columns else y


class _AdaptiveNorm(nn.Module):
    """norm(x) (1 + scale) + shift, where shift and scale depend on c and start at zero."""

    def __init__(self, d_model: int, num_parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, num_parts * d_model)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def parts(self, c: Float[Tensor, "B D"]) -> tuple[Tensor, ...]:
        """(B, 1, 1, D) each."""
        return self.linear(c)[:, None, None].split(c.shape[-1], dim=-1)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _to_patches(
    images: Float[Tensor, "B channels height width"], size: int
) -> Float[Tensor, "B rows columns pixels"]:
    """Patches of size × size, each with the pixels of all channels in one vector."""
    batch, channels, height, width = images.shape
    patches = images.view(batch, channels, height // size, size, width // size, size)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _from_patches(
    patches: Float[Tensor, "B rows columns pixels"], size: int
) -> Float[Tensor, "B channels height width"]:
    """The inverse of `_to_patches`."""
    pixels = patches.unflatten(3, (-1, size, size))
    return pixels.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
