"""Layers: the source's `Aggregation`, and the mixers of deep models, causal and both ways."""

from hyperagg.layers.aggregation import Aggregation
from hyperagg.layers.bidirectional import BidirectionalAggregation
from hyperagg.layers.causal import CausalAggregation, MixerState
from hyperagg.layers.layout import Layout
from hyperagg.layers.relations import FORMS

__all__ = [
    "FORMS",
    "Aggregation",
    "BidirectionalAggregation",
    "CausalAggregation",
    "Layout",
    "MixerState",
]
