"""Layers: the source's `Aggregation`, and the mixers of deep models, causal and both ways."""

from hyperagg.layers.aggregation import Aggregation
from hyperagg.layers.batch_layout import Layout
from hyperagg.layers.bidirectional import BidirectionalAggregation
from hyperagg.layers.causal import CausalAggregation, MixerState
from hyperagg.layers.recurrences import FORMS

__all__ = [
    "FORMS",
    "Aggregation",
    "BidirectionalAggregation",
    "CausalAggregation",
    "Layout",
    "MixerState",
]
