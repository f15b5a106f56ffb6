"""The rivals of the sum: concatenation, and attention over all tokens.

They have the same tokens, made by the same perceptrons, and stand in the same skeleton; only what
makes one vector of a row's modalities differs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg.layers.attention import SelfAttention
from hyperagg.multimodal.encoder import Given, MultimodalEncoder
from hyperagg.multimodal.modalities.base import Modality

__all__ = ["FUSIONS", "AttentionFusion", "ConcatenationFusion", "make_encoder"]


class ConcatenationFusion(nn.Module):
    """GELU(W [context_1 ... context_M]): a sum for each modality, one after the other.

    A modality that a row does not have is a learned vector.

    Args:
        d_model: D, also of what comes out.
        modalities: as of `MultimodalEncoder`.
    """

    def __init__(self, d_model: int, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.out_features = d_model
        self.names = list(modalities)
        self.modalities = nn.ModuleList(modalities.values())
        self.absent = nn.Parameter(0.02 * torch.randn(len(modalities), d_model))
        self.join = nn.Linear(len(modalities) * d_model, d_model)

    def forward(self, given: Mapping[str, Given], rows: int) -> Float[Tensor, "{rows} D"]:
        """(B, D)."""
        found = []
        for name, modality, absent in zip(self.names, self.modalities, self.absent):
            x = absent.expand(rows, -1)
            if name in given and len(given[name].rows):
                x = x.index_copy(0, given[name].rows, modality(*given[name].values))
            found.append(x)
        return nn.functional.gelu(self.join(torch.cat(found, 1)))


class AttentionFusion(nn.Module):
    """A transformer block over the tokens of all modalities, and the mean of what comes out.

    x_t = e_t + (p_t - 1) + v_m: places are added, as attention has them, and start near zero.

    Args:
        d_model: D.
        modalities: as of `MultimodalEncoder`.
        heads: must divide D.
        width: of the feed-forward layer.

    Cost: O(n^2 d + n d^2) for n tokens in all.
    """

    def __init__(
        self, d_model: int, modalities: Mapping[str, Modality], heads: int = 4, width: int = 128
    ) -> None:
        super().__init__()
        self.out_features = d_model
        self.names = list(modalities)
        self.modalities = nn.ModuleList(modalities.values())
        self.vectors = nn.Parameter(0.02 * torch.randn(len(modalities), d_model))
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model), nn.Linear(d_model, width), nn.GELU(), nn.Linear(width, d_model)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, given: Mapping[str, Given], rows: int) -> Float[Tensor, "{rows} D"]:
        """(B, D)."""
        tokens, kept = [], []
        for name, modality, vector in zip(self.names, self.modalities, self.vectors):
            if name not in given or not len(given[name].rows):
                continue
            assert isinstance(modality, Modality)
            own, at = modality.tokens(*given[name].values), given[name].rows
            x = own.vectors + vector
            if own.places is not None:
                x = x + (own.places - 1)
            n = x.shape[1]
            seen = torch.ones(len(at), n, dtype=torch.bool, device=at.device)
            if own.lengths is not None:
                seen = torch.arange(n, device=at.device) < own.lengths[:, None]
            tokens.append(x.new_zeros(rows, n, x.shape[2]).index_copy(0, at, x))
            kept.append(seen.new_zeros(rows, n).index_copy(0, at, seen))
        x, seen = torch.cat(tokens, 1), torch.cat(kept, 1)
        x = x + self.attention(self.attention_norm(x), seen)
        x = self.norm(x + self.feed_forward(x))
        return (x * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1)


FUSIONS = {
    "sum": MultimodalEncoder,
    "concatenation": ConcatenationFusion,
    "attention": AttentionFusion,
}


def make_encoder(fusion: str, d_model: int, modalities: Mapping[str, Modality]) -> nn.Module:
    """One of FUSIONS by name.

    Raises:
        ValueError: a name that is not known.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r}: there are {', '.join(FUSIONS)}")
    return FUSIONS[fusion](d_model, modalities)
