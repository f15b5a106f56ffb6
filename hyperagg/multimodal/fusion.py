"""The fusions of a row's modalities: the sum and two baselines, concatenation and attention.

All of them take the same tokens from the same modalities; only the step from the tokens to one
vector per row differs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg._common.validation import check_choice
from hyperagg.layers.attention import SelfAttention
from hyperagg.multimodal.encoder import ModalityInput, MultimodalEncoder
from hyperagg.multimodal.modalities.base import Modality

__all__ = ["FUSIONS", "AttentionFusion", "ConcatenationFusion", "make_encoder"]


class ConcatenationFusion(nn.Module):
    """Concatenates one sum per modality: GELU(W [context_1 ... context_M]).

    A learned vector replaces a modality that a row does not have.

    Args:
        d_model: dimension D of the tokens and of the result.
        modalities: see `MultimodalEncoder`.

    Cost: O(n d + M d^2) for n tokens in all and M modalities.
    """

    def __init__(self, d_model: int, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.out_features = d_model
        self.names = list(modalities)
        self.modalities = nn.ModuleList(modalities.values())
        self.missing_vectors = nn.Parameter(0.02 * torch.randn(len(modalities), d_model))
        self.output_projection = nn.Linear(len(modalities) * d_model, d_model)

    def forward(
        self, inputs: Mapping[str, ModalityInput], num_rows: int
    ) -> Float[Tensor, "{num_rows} D"]:
        """Return (B, D); arguments as in `MultimodalEncoder.forward`."""
        contexts = []
        for name, modality, missing in zip(self.names, self.modalities, self.missing_vectors):
            x = missing.expand(num_rows, -1)
            if name in inputs and len(inputs[name].rows):
                x = x.index_copy(0, inputs[name].rows, modality(*inputs[name].values))
            contexts.append(x)
        return nn.functional.gelu(self.output_projection(torch.cat(contexts, 1)))


class AttentionFusion(nn.Module):
    """Applies a transformer block to the tokens of all modalities and averages its outputs.

    x_t = e_t + (p_t - 1) + v_m: position vectors are added, as is usual for attention, and start
    near zero.

    Args:
        d_model: dimension D of the tokens and of the result.
        modalities: see `MultimodalEncoder`.
        num_heads: number of attention heads; must divide D.
        hidden_dim: width of the feed-forward layer.

    Cost: O(n^2 d + n d^2) for n tokens in all.
    """

    def __init__(
        self,
        d_model: int,
        modalities: Mapping[str, Modality],
        num_heads: int = 4,
        hidden_dim: int = 128,
    ) -> None:
        super().__init__()
        self.out_features = d_model
        self.names = list(modalities)
        self.modalities = nn.ModuleList(modalities.values())
        self.modality_vectors = nn.Parameter(0.02 * torch.randn(len(modalities), d_model))
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, num_heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, d_model),
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self, inputs: Mapping[str, ModalityInput], num_rows: int
    ) -> Float[Tensor, "{num_rows} D"]:
        """Return (B, D); arguments as in `MultimodalEncoder.forward`."""
        tokens, masks = [], []
        for name, modality, vector in zip(self.names, self.modalities, self.modality_vectors):
            if name not in inputs or not len(inputs[name].rows):
                continue
            assert isinstance(modality, Modality)
            rows, values = inputs[name]
            own = modality.tokens(*values)
            x = own.vectors + vector
            if own.positions is not None:
                x = x + (own.positions - 1)
            n = x.shape[1]
            valid = torch.ones(len(rows), n, dtype=torch.bool, device=rows.device)
            if own.lengths is not None:
                valid = torch.arange(n, device=rows.device) < own.lengths[:, None]
            tokens.append(x.new_zeros(num_rows, n, x.shape[2]).index_copy(0, rows, x))
            masks.append(valid.new_zeros(num_rows, n).index_copy(0, rows, valid))
        x, valid = torch.cat(tokens, 1), torch.cat(masks, 1)
        x = x + self.attention(self.attention_norm(x), valid)
        x = self.norm(x + self.feed_forward(x))
        return (x * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


FUSIONS = {
    "sum": MultimodalEncoder,
    "concatenation": ConcatenationFusion,
    "attention": AttentionFusion,
}


def make_encoder(fusion: str, d_model: int, modalities: Mapping[str, Modality]) -> nn.Module:
    """Make the encoder of a fusion.

    Args:
        fusion: "sum", "concatenation" or "attention".
        d_model: dimension D of the tokens.
        modalities: by name, the modules that make the tokens.

    Raises:
        ValueError: an unknown fusion.

    >>> from hyperagg.multimodal import Category
    >>> make_encoder("concatenation", 8, {"kind": Category(8, 3)}).out_features
    8
    """
    return FUSIONS[check_choice("fusion", fusion, FUSIONS)](d_model, modalities)
