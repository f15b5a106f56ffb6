"""What a layer remembers while decoding: a state of fixed size, in transformers' cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from hyperagg.layers import FORMS, MixerState
from hyperagg.layers.causal import Trace
from hyperagg.ops import State

__all__ = ["AggregationCacheLayer"]


class AggregationCacheLayer(CacheLayerMixin):
    """The state of one aggregation layer: its sums and K - 1 inputs a row, however long the text.

    `crop` takes tokens back exactly. It needs the states after each of them, which are kept from
    `activate_past_recording` on, until the next `crop`.
    """

    is_croppable = True
    supports_early_init = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.state: MixerState | None = None
        self.places = 0
        self.device = torch.device("cpu")
        self.record_past = False

    def remember(self, state: MixerState | None, places: int) -> None:
        """The state after `places` more places of the batch, padding included."""
        if state is not None and self.state is not None and self.state.trace and state.trace:
            state = state._replace(trace=_joined(self.state, state.trace))
        self.state = state
        if state is not None:
            self.device = state.sums.sums.device
        self.places += places
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return self.places

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.places + query_length, 0

    def activate_past_recording(self) -> None:
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Take the last |tokens_to_remove| tokens back (a number of at most 0, as elsewhere)."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop({tokens_to_remove}): give how many tokens to remove, negative")
        if self.state is not None:
            if tokens_to_remove:
                self.state = self.state.back(-tokens_to_remove)
            else:
                self.state = self.state._replace(trace=None)
        self.places += tokens_to_remove

    def reset(self) -> None:
        self.state, self.places = None, 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._each(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._each(lambda tensor: tensor.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        self._each(lambda tensor: tensor[indices])

    def offload(self) -> None:
        self._each(lambda tensor: tensor.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        self._each(lambda tensor: tensor.to(self.device, non_blocking=True))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise TypeError("an aggregation layer keeps a state, no keys and values")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("an aggregation layer keeps a state, no keys and values; use remember")

    def _each(self, change: Any) -> None:
        if self.state is None:
            return
        (carried, seen), recent, trace = self.state
        if trace is not None:
            inputs = None if trace.inputs is None else change(trace.inputs)
            trace = Trace(change(trace.sums), inputs)
        recent = None if recent is None else change(recent)
        self.state = MixerState(State(change(carried), change(seen)), recent, trace)


def _joined(before: MixerState, trace: Trace) -> Trace:
    """The trace of the tokens before and of these."""
    assert before.trace is not None
    sums = torch.cat([before.trace.sums, trace.sums[:, 1:]], 1)
    if before.recent is None or trace.inputs is None or before.trace.inputs is None:
        return Trace(sums, None)
    new = trace.inputs[:, before.recent.shape[1] :]
    return Trace(sums, torch.cat([before.trace.inputs, new], 1))


# transformers makes a cache from a configuration's layer types by these names.
for _name in (*FORMS, "none"):
    type(f"{_name.title()}CacheLayer", (AggregationCacheLayer,), {"_layer_type": _name})
