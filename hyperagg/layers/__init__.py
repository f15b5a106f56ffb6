"""Layers: the source's `Aggregation`, and the causal mixer that language models are made of."""

from hyperagg.layers.aggregation import Aggregation
from hyperagg.layers.causal import CausalAggregation, MixerState
from hyperagg.layers.layout import Layout
from hyperagg.layers.relations import FORMS

__all__ = ["FORMS", "Aggregation", "CausalAggregation", "Layout", "MixerState"]
