"""The denoiser of diffusion models: patches of a noisy picture in, what is noise in them out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

try:
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps
except ImportError as error:
    raise ImportError(
        "diffusion needs diffusers; pip install 'hyperagg[diffusion]' brings it"
    ) from error

from hyperagg.layers import BidirectionalAggregation
from hyperagg.layers.attention import SelfAttention

__all__ = ["MIXERS", "Denoiser"]

MIXERS = ("aggregation", "attention")


class Denoiser(ModelMixin, ConfigMixin):
    """Predicts what a diffusion process has to know of a noisy picture, its time and its class.

    Patches become tokens with learned places. Each of L blocks is, with shift, scale and gate made
    from the embedding c of time and class,

        x += gate_1(c) * mix(norm(x) (1 + scale_1(c)) + shift_1(c))
        x += gate_2(c) * W_2 GELU(W_1 (norm(x) (1 + scale_2(c)) + shift_2(c)))

    where the gates start at zero. The first block sums along every row of patches, both ways, the
    next along every column, and so on in turns; attention is over all patches in every block.

    Args:
        sample_size: height and width of the pictures.
        in_channels: 1 for grey, 3 for colours.
        patch_size: height and width of a patch; divides `sample_size`.
        num_classes: C. The class number C stands for "any" and is learned by leaving labels out.
        d_model: D.
        num_layers: L.
        mixer: "aggregation", gated sums both ways, or "attention", with as many weights.
        num_heads: of attention; divides D.

    Raises:
        ValueError: a mixer that is not known, or sizes that do not divide.

    Numerics: sums in float32 or better. Cost: O(n D^2) a block for n patches, and O(n^2 D) more
        with attention; 18 D^2 weights a block.
    Source: Peebles and Xie 2023, "Scalable diffusion models with transformers", for the block.
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
        if sample_size % patch_size:
            raise ValueError(f"patch_size={patch_size}: must divide sample_size={sample_size}")
        if mixer not in MIXERS:
            raise ValueError(f"mixer={mixer!r}: there are {', '.join(MIXERS)}")
        if mixer == "attention" and d_model % num_heads:
            raise ValueError(f"num_heads={num_heads}: must divide d_model={d_model}")
        side = sample_size // patch_size
        pixels = in_channels * patch_size**2
        self.patches = nn.Linear(pixels, d_model)
        self.rows = nn.Parameter(0.5 * torch.randn(side, 1, d_model))
        self.columns = nn.Parameter(0.5 * torch.randn(1, side, d_model))
        self.waves = Timesteps(d_model, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(d_model, d_model)
        self.classes = nn.Embedding(num_classes + 1, d_model)
        self.blocks = nn.ModuleList(
            _Block(d_model, mixer, num_heads, by_columns=bool(layer % 2))
            for layer in range(num_layers)
        )
        self.last_norm = _AdaptiveNorm(d_model, parts=2)
        self.last = nn.Linear(d_model, pixels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        sample: Float[Tensor, "B channels height width"],
        timestep: Int[Tensor, " B"] | Int[Tensor, ""],
        class_labels: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B channels height width"]:
        """The prediction for noisy pictures.

        Args:
            sample: (B, channels, height, width).
            timestep: (B,), or one for all.
            class_labels: (B,) in 0 ... C, where C is "any"; None is "any" for all.
        """
        c = self.condition(timestep.expand(len(sample)), class_labels)
        x = self.patches(_cut(sample, self.config.patch_size)) + self.rows + self.columns
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.last_norm.parts(c)
        return _paste(self.last(self.last_norm(x, shift, scale)), self.config.patch_size)

    def condition(
        self, timestep: Int[Tensor, " B"], class_labels: Int[Tensor, " B"] | None
    ) -> Float[Tensor, "B D"]:
        """c: the embedding of time and class."""
        if class_labels is None:
            class_labels = torch.full_like(timestep, self.config.num_classes)
        waves = self.waves(timestep).to(self.classes.weight.dtype)
        return F.silu(self.time(waves) + self.classes(class_labels))


class _Block(nn.Module):
    """A mixer and a feed-forward layer, each behind an adaptive norm."""

    def __init__(self, d_model: int, mixer: str, heads: int, by_columns: bool) -> None:
        super().__init__()
        self.norm = _AdaptiveNorm(d_model, parts=6)
        self.by_lines, self.by_columns = mixer == "aggregation", by_columns
        self.mix: nn.Module
        if mixer == "aggregation":
            self.mix = BidirectionalAggregation(d_model)
        else:
            self.mix = SelfAttention(d_model, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * d_model, d_model),
        )

    def forward(
        self, x: Float[Tensor, "B height width D"], c: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B height width D"]:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.norm.parts(c)
        x = x + gate_1 * self.mixed(self.norm(x, shift_1, scale_1))
        return x + gate_2 * self.feed_forward(self.norm(x, shift_2, scale_2))

    def mixed(self, u: Float[Tensor, "B height width D"]) -> Float[Tensor, "B height width D"]:
        if not self.by_lines:
            return self.mix(u.flatten(1, 2)).view(u.shape)
        if self.by_columns:
            u = u.transpose(1, 2)
        y = self.mix(u.flatten(0, 1)).view(u.shape)
        return y.transpose(1, 2) if self.by_columns else y


class _AdaptiveNorm(nn.Module):
    """norm(x) (1 + scale) + shift with shift and scale of c, which start at zero."""

    def __init__(self, d_model: int, parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, parts * d_model)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def parts(self, c: Float[Tensor, "B D"]) -> tuple[Tensor, ...]:
        """(B, 1, 1, D) each."""
        return self.linear(c)[:, None, None].split(c.shape[-1], dim=-1)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _cut(
    pictures: Float[Tensor, "B channels height width"], size: int
) -> Float[Tensor, "B rows columns pixels"]:
    """Patches of size × size, the pixels of all channels in one vector."""
    batch, channels, height, width = pictures.shape
    patches = pictures.view(batch, channels, height // size, size, width // size, size)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _paste(
    patches: Float[Tensor, "B rows columns pixels"], size: int
) -> Float[Tensor, "B channels height width"]:
    """The pictures that `_cut` cut."""
    pixels = patches.unflatten(3, (-1, size, size))
    return pixels.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
