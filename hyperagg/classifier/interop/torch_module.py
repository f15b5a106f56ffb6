"""The classifier as a PyTorch module of the same function."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError(
        "to_torch needs PyTorch: pip install 'hyperagg[torch]'", name="torch"
    ) from error

from hyperagg.layers.pooling import PooledAggregation

if TYPE_CHECKING:
    from hyperagg.classifier.model import ClassifierModel
    from hyperagg.classifier.pooling import Pooling

__all__ = ["ClassifierModule"]


class ClassifierModule(nn.Module):
    """Map ragged rows of token ids to logits by pooled aggregation and a linear head.

        logits  =  W sum_t w_t e_t * p_block(t) / |w| + b

    `TextClassifier.to_torch` returns the module of a trained classifier.

    Args:
        vocab_size: V, the number of token ids.
        num_classes: C.
        d_model: embedding dimension D.
        pooling: "harmonic" or "mean"; see `PooledAggregation`.

    Numerics: float32 sums in another order than the compiled kernels, so logits are equal up to
    rounding. All parameters have gradients.

    Cost: O(T D) for T tokens.
    """

    def __init__(
        self, vocab_size: int, num_classes: int, d_model: int, pooling: Pooling = "harmonic"
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, d_model).uniform_(-0.05, 0.05))
        self.pooling = PooledAggregation(d_model, pooling)
        self.head = nn.Linear(d_model, num_classes)

    @classmethod
    def from_model(cls, model: ClassifierModel) -> ClassifierModule:
        """Make the module with a copy of the parameters of a classifier's `model_`."""
        vocab_size, d_model = model.embedding.shape
        module = cls(vocab_size, len(model.bias), d_model, model.pooling)
        arrays = {
            "embedding": model.embedding,
            "pooling.positions.weight": model.positions,
            "head.weight": model.weight,
            "head.bias": model.bias,
        }
        module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        return module

    def forward(self, token_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Return the logits (B, C) of the rows token_ids[cu_seqlens[b] : cu_seqlens[b + 1]].

        Args:
            token_ids: (T,) integers below V, all rows end to end.
            cu_seqlens: (B + 1,) integers, 0 ... T.
        """
        return self.head(self.pooling(self.embedding, token_ids, cu_seqlens))
