"""PyTorch modules on `hyperagg.ops`: the aggregation layer, and causal and bidirectional mixers."""

from __future__ import annotations

try:
    import jaxtyping as _jaxtyping  # noqa: F401
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"hyperagg.layers requires {error.name}: pip install 'hyperagg[torch]'"
    ) from error

from hyperagg.layers.aggregation import Aggregation
from hyperagg.layers.associative import AssociativeAggregation
from hyperagg.layers.attention import SelfAttention
from hyperagg.layers.batch_layout import Layout
from hyperagg.layers.bidirectional import BidirectionalAggregation
from hyperagg.layers.causal import CausalAggregation, MixerState, StateHistory
from hyperagg.layers.gated_associative import GatedAssociativeAggregation
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.layers.positions import BlockPositions, LearnedPositions, SinusoidalPositions
from hyperagg.layers.recurrences import FORMS

__all__ = [
    "FORMS",
    "Aggregation",
    "AssociativeAggregation",
    "BidirectionalAggregation",
    "BlockPositions",
    "CausalAggregation",
    "GatedAssociativeAggregation",
    "Layout",
    "LearnedPositions",
    "MixerState",
    "PooledAggregation",
    "SelfAttention",
    "SinusoidalPositions",
    "StateHistory",
]
