"""The language model of Ekin (2025): one mixer between an embedding and a softmax.

    aggregation       c_i = sum_{t<=i} W (e_t * p_t)  +  noise
    no mixing         c_i = W (e_i * p_i)  +  noise
    attention         c_i = attention over t <= i of e_t + p_t
    logits_i  =  V c_i + b

The model serves to reproduce published figures. It has neither a residual connection nor a norm,
so sums grow with the position, and embeddings of ±0.05 times sinusoids give small products.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.layers import Aggregation
from hyperagg.layers.positions import SinusoidalPositions
from hyperagg.ops import Causal, Mask, Window
from research.models.keras_initialization import initialize_like_keras

__all__ = ["MixerName", "OriginalLanguageModel"]

MixerName = Literal["aggregation", "attention", "no mixing", "masked product"]

# Positions whose logits exist at the same time: 20 MB for 10,000 words.
CHUNK = 512


class OriginalLanguageModel(nn.Module):
    """Map token ids to one context vector per position, and predict the next token from it.

    Args:
        vocab_size: V.
        mixer: see the module docstring; "masked product" is aggregation as Ekin (2025) computes
            it, the same layer with an (N, N) mask for every row.
        d_model: D.
        max_length: number of position vectors.

    Cost: O(n D^2 + n D V); attention and the masked product add O(n^2 D).
    Source: Ekin (2025), AG News.
    """

    def __init__(self, vocab_size: int, mixer: MixerName, d_model: int, max_length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.positions = SinusoidalPositions(d_model, max_length)
        self.mixer = _mixer(mixer, d_model)
        self.adds_positions = mixer == "attention"
        self.head = nn.Linear(d_model, vocab_size)
        initialize_like_keras(self)

    def forward(self, token_ids: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Compute the (B, N, D) input of the softmax from (B, N) token ids."""
        e, p = self.embedding(token_ids), self.positions(token_ids.shape[1])
        return self.mixer(e + p if self.adds_positions else e * p)

    @torch.no_grad()
    def losses(
        self, token_ids: Int[Tensor, "B N"], targets: Int[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """Compute -log p(target) in nats for every position, (B, N)."""
        parts = self(token_ids).flatten(0, 1).split(CHUNK)
        pairs = zip(parts, targets.flatten().split(CHUNK))
        losses = [F.cross_entropy(self.head(c), t, reduction="none") for c, t in pairs]
        return torch.cat(losses).view(targets.shape)

    def accumulate(
        self, token_ids: Int[Tensor, "B N"], targets: Int[Tensor, "B N"]
    ) -> Float[Tensor, ""]:
        """Compute the mean loss and add its gradients to those of the parameters.

        Softmax and its gradient are computed in chunks, so the (B N, V) logits never exist.
        """
        contexts, targets = self(token_ids).flatten(0, 1), targets.flatten()
        gradients, total = torch.empty_like(contexts), contexts.new_zeros(())
        chunks = zip(contexts.detach().split(CHUNK), targets.split(CHUNK), gradients.split(CHUNK))
        for part, target, gradient in chunks:
            part.requires_grad_()
            loss = F.cross_entropy(self.head(part), target, reduction="sum") / len(targets)
            loss.backward()
            assert part.grad is not None
            gradient.copy_(part.grad)
            total += loss.detach()
        contexts.backward(gradients)
        return total


class _SumMixer(nn.Module):
    def __init__(self, d_model: int, mask: Mask | None) -> None:
        super().__init__()
        self.aggregation = Aggregation(d_model, noise_stddev=0.1)
        self.mask = mask

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        batch, n, _ = x.shape
        mask = self.mask or x.new_ones(n, n).tril().expand(batch, n, n)
        return self.aggregation(x, mask)


class _AttentionMixer(nn.Module):
    """Causal MultiHeadAttention(num_heads=4, key_dim=D) of Keras: each head has D channels."""

    heads = 4

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(d_model, 3 * self.heads * d_model)
        self.out = nn.Linear(self.heads * d_model, d_model)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        batch, n, d = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, n, -1))


def _mixer(name: MixerName, d_model: int) -> nn.Module:
    if name == "attention":
        return _AttentionMixer(d_model)
    masks = {"aggregation": Causal(), "no mixing": Window(1), "masked product": None}
    return _SumMixer(d_model, masks[name])
