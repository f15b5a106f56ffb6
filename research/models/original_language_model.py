"""The source's language model: one mixer between an embedding and a softmax, nothing else.

    aggregation       c_i = sum_{t<=i} W (e_t * p_t)  +  noise
    no mixing         c_i = W (e_i * p_i)  +  noise
    attention         c_i = attention over t <= i of e_t + p_t
    logits_i  =  V c_i + b

It is here to reproduce the source's figures: there is no residual and no norm, sums grow with the
place, and embeddings of 0.05 times sinusoids make small products.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.layers import Aggregation
from hyperagg.layers.positions import SinusoidalPositions
from hyperagg.ops.masks import Causal, Mask, Window
from research.models.keras_initialization import start_as_keras

__all__ = ["MixerName", "SourceLanguageModel"]

MixerName = Literal["aggregation", "attention", "no mixing", "masked product"]

# Places whose logits exist at one time: 20 MB of 10,000 words.
CHUNK = 512


class SourceLanguageModel(nn.Module):
    """Token ids to a context a place, and from it the next token; starts as Keras does.

    Args:
        vocabulary: V.
        mixer: see the module; "masked product" is aggregation as the source computes it, the same
            layer with an (N, N) mask for every row.
        d_model: D.
        length: how many places there are positions for.

    Cost: O(n D^2 + n D V), of attention and the masked product O(n^2 D) more.
    Source: the source document's AG News row.
    """

    def __init__(self, vocabulary: int, mixer: MixerName, d_model: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.positions = SinusoidalPositions(d_model, length)
        self.mixer = _mixer(mixer, d_model)
        self.adds_positions = mixer == "attention"
        self.head = nn.Linear(d_model, vocabulary)
        start_as_keras(self)

    def forward(self, token_ids: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """(B, N, D) contexts, the softmax's input, of ids (B, N)."""
        e, p = self.embedding(token_ids), self.positions(token_ids.shape[1])
        return self.mixer(e + p if self.adds_positions else e * p)

    @torch.no_grad()
    def losses(
        self, token_ids: Int[Tensor, "B N"], targets: Int[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """(B, N) -log p(target) in nats of every place."""
        parts = self(token_ids).flatten(0, 1).split(CHUNK)
        pairs = zip(parts, targets.flatten().split(CHUNK))
        found = [F.cross_entropy(self.head(c), t, reduction="none") for c, t in pairs]
        return torch.cat(found).view(targets.shape)

    def accumulate(
        self, token_ids: Int[Tensor, "B N"], targets: Int[Tensor, "B N"]
    ) -> Float[Tensor, ""]:
        """The mean loss over all places; its gradients are added to those of the parameters.

        The softmax goes by chunks forth and back, so that (B N, V) logits never exist.
        """
        contexts, wanted = self(token_ids).flatten(0, 1), targets.flatten()
        slopes, total = torch.empty_like(contexts), contexts.new_zeros(())
        chunks = zip(contexts.detach().split(CHUNK), wanted.split(CHUNK), slopes.split(CHUNK))
        for part, wants, slope in chunks:
            part.requires_grad_()
            loss = F.cross_entropy(self.head(part), wants, reduction="sum") / len(wanted)
            loss.backward()
            assert part.grad is not None
            slope.copy_(part.grad)
            total += loss.detach()
        contexts.backward(slopes)
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
    """Keras's MultiHeadAttention(num_heads=4, key_dim=D), causal: heads as wide as the model."""

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
