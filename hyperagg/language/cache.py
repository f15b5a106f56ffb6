"""The decoding cache: states of fixed size for sums, keys and values for attention."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, StaticCache
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    STATIC_LAYER_TYPE_MAPPING,
    Cache,
    CacheLayerMixin,
    DynamicLayer,
    StaticLayer,
)

from hyperagg.layers import MixerState, StateHistory
from hyperagg.ops import State

from .configuration_hyperagg import LAYER_TYPES

__all__ = ["AggregationCacheLayer", "HyperAggCache", "StaticHyperAggCache", "prepare_cache"]


class AggregationCacheLayer(CacheLayerMixin):
    """Hold the state of one aggregation layer: its sums and K - 1 inputs per row, for any length.

    Its tensors are plain attributes, so that whatever walks over a cache (`torch.export`, moves to
    another device or type) finds them.

    `crop` restores an earlier state exactly. It needs the states after each of the removed tokens,
    which are recorded from `activate_past_recording` until the next `crop`.

    Cost: per row E sums in float32 or better, H E^2 of an associative layer, and the K - 1 latest
        inputs of the convolutions.
    """

    is_croppable = True
    supports_early_init = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.sums: Tensor | None = None
        self.num_tokens: Tensor | None = None
        self.conv_state: Tensor | None = None
        self.past_sums: Tensor | None = None
        self.past_conv_inputs: Tensor | None = None
        self.past_is_token: Tensor | None = None
        self.seq_length: int | Tensor = 0
        self.device = torch.device("cpu")
        self.record_past = False

    @property
    def state(self) -> MixerState | None:
        """The state after the cached tokens; None before the first, and without a mixer."""
        if self.sums is None or self.num_tokens is None:
            return None
        history = None
        if self.past_sums is not None:
            history = StateHistory(self.past_sums, self.past_conv_inputs)
        return MixerState(State(self.sums, self.num_tokens), self.conv_state, history)

    def update_state(
        self, state: MixerState | None, num_tokens: int, latest: Tensor | None = None
    ) -> None:
        """Replace the state after `num_tokens` more positions of the batch, padding included.

        Args:
            state: the new state; None for a layer without a mixer.
            num_tokens: N of the batch that was processed.
            latest: (M,) whether each of the last M positions holds a token in every row, or
                padding in every row. These positions can be cropped. None: all N hold tokens.
        """
        if state is None or state.history is None:
            latest = None
        else:
            before, before_is_token = self.state, self.past_is_token
            if latest is None:
                latest = torch.ones(num_tokens, dtype=torch.bool)
            history = _shortened(state.history, int(latest.sum()))
            if len(latest) == num_tokens and before is not None and before.history is not None:
                assert before_is_token is not None
                history = _joined_history(before, history)
                latest = torch.cat([before_is_token, latest])
            state = state._replace(history=history)
        self._store(state)
        self.past_is_token = latest
        self.seq_length += num_tokens
        self.is_initialized = True

    def get_seq_length(self) -> Any:
        return self.seq_length

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return int(self.seq_length) + query_length, 0

    def activate_past_recording(self) -> None:
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last |tokens_to_remove| positions, padding included.

        Args:
            tokens_to_remove: an integer <= 0, as in the other cache layers of transformers.

        Raises:
            ValueError: if the number is positive, or if the states were not recorded.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"tokens_to_remove={tokens_to_remove}: expected an integer <= 0")
        if not self.is_initialized:
            return  # The layer was skipped: an early exit.
        state = self.state
        if state is not None:
            if tokens_to_remove:
                self._store(state.rollback(self._count_tokens(-tokens_to_remove)))
            else:
                self._store(state._replace(history=None))
        self.seq_length += tokens_to_remove

    def reset(self) -> None:
        self._store(None)
        self.seq_length, self.is_initialized = 0, False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._apply(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._apply(lambda tensor: tensor.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        self._apply(lambda tensor: tensor[indices])

    def offload(self) -> None:
        self._apply(lambda tensor: tensor.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        self._apply(lambda tensor: tensor.to(self.device, non_blocking=True))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise TypeError("an aggregation layer has a state and not keys and values")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "an aggregation layer has a state and not keys and values; use update_state"
        )

    def _concatenate(self, layers: Sequence[AggregationCacheLayer]) -> None:
        """Replace the state by the rows of the states of all layers."""
        states = [layer.state for layer in layers]
        self.seq_length = max(int(layer.seq_length) for layer in layers)
        if states[0] is None:
            return
        for name in ("sums", "num_tokens", "conv_state"):
            if getattr(self, name) is not None:
                setattr(self, name, torch.cat([getattr(layer, name) for layer in layers]))
        self.past_sums = self.past_conv_inputs = self.past_is_token = None

    def _count_tokens(self, num_positions: int) -> int:
        """The number of tokens of each row in the last positions."""
        recorded = () if self.past_is_token is None else self.past_is_token
        if num_positions > len(recorded):
            raise ValueError(
                f"tokens_to_remove={-num_positions}: expected {-len(recorded)} to 0, the positions "
                "recorded since activate_past_recording() and the latest crop, without those where "
                "some rows hold a token and others padding"
            )
        return int(sum(recorded[-num_positions:]))

    def _store(self, state: MixerState | None) -> None:
        """Replace the tensors by those of a state."""
        self.past_sums = self.past_conv_inputs = self.past_is_token = None
        if state is None:
            self.sums = self.num_tokens = self.conv_state = None
            return
        (self.sums, self.num_tokens), self.conv_state, history = state
        self.device = self.sums.device
        if history is not None:
            self.past_sums, self.past_conv_inputs = history

    def _apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor of the state by `function` of it."""
        for name in _TENSORS:
            tensor = getattr(self, name)
            if tensor is not None:
                setattr(self, name, function(tensor))


# All have one row per sequence.
_TENSORS = ("sums", "num_tokens", "conv_state", "past_sums", "past_conv_inputs")


class StaticAggregationCacheLayer(AggregationCacheLayer):
    """Hold the state of an aggregation layer in tensors that are written in place.

    A compiled decoding step that reads and writes the same tensors is neither compiled anew nor
    kept from CUDA graphs. Earlier states cannot be restored.

    Args:
        max_cache_len: number of positions of the attention layers of the same cache.
    """

    is_compileable = True
    is_croppable = False

    def __init__(self, max_cache_len: int, **kwargs: Any) -> None:
        super().__init__()
        self.max_cache_len = max_cache_len
        # A tensor, since a number in a compiled graph is a constant.
        self.seq_length = torch.tensor(0)

    def update_state(
        self, state: MixerState | None, num_tokens: int, latest: Tensor | None = None
    ) -> None:
        if not self.is_initialized:
            self._initialize(state)
        if state is not None:
            for name, tensor in zip(_TENSORS, (*state.sums, state.conv_state)):
                if tensor is not None:
                    getattr(self, name).copy_(tensor)
        self.seq_length.add_(num_tokens)  # type: ignore[union-attr]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.max_cache_len, 0

    def reset(self) -> None:
        # Zeros are the state before the first token.
        self._apply(torch.Tensor.zero_)
        self.seq_length.zero_()  # type: ignore[union-attr]

    def _initialize(self, state: MixerState | None) -> None:
        self._store(None if state is None else state._replace(history=None))
        self._apply(torch.clone)
        assert isinstance(self.seq_length, Tensor)
        self.seq_length = self.seq_length.to(self.device)
        if not torch.compiler.is_compiling():
            for name in _TENSORS:
                if getattr(self, name) is not None:
                    torch._dynamo.mark_static_address(getattr(self, name))
            torch._dynamo.mark_static_address(self.seq_length)
        self.is_initialized = True


class HyperAggCache(DynamicCache):
    """Hold what a language model keeps of the preceding tokens while it decodes.

    The model creates one itself if it is called with `use_cache=True`, and so does `generate`.
    Create one to fill it chunk by chunk.

    Args:
        config: the `HyperAggConfig` of the model.
        offloading: whether attention layers move their keys and values to CPU memory between
            uses (default: False).

    Example:
        >>> import torch
        >>> from hyperagg.language import HyperAggCache, HyperAggConfig, HyperAggForCausalLM
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> model, cache = HyperAggForCausalLM(config).eval(), HyperAggCache(config)
        >>> _ = model(torch.tensor([[1, 2, 3]]), past_key_values=cache)
        >>> cache.get_seq_length()
        3
    """

    def __init__(self, config: PreTrainedConfig, offloading: bool = False) -> None:
        # Not by the table below, where a name may belong to another model.
        Cache.__init__(
            self,
            layers=_make_layers(config),
            offloading=offloading,
            offload_only_non_sliding=False,
        )

    @property
    def num_bytes(self) -> int:
        """The size of all states, keys and values."""
        tensors = (t for layer in self.layers for t in vars(layer).values())
        return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))

    @property
    def has_fixed_size(self) -> bool:
        """Whether the size does not depend on the length: no layer holds keys and values."""
        return all(isinstance(layer, AggregationCacheLayer) for layer in self.layers)

    def select_rows(self, rows: Tensor) -> HyperAggCache:
        """Return a cache of the given rows, whose tensors are copies.

        Args:
            rows: (R,) int64 indices of sequences.
        """
        copied = self._copy_layers()
        copied.batch_select_indices(rows)
        return copied

    @staticmethod
    def concatenate(caches: Sequence[HyperAggCache]) -> HyperAggCache:
        """Return a cache of the rows of all caches, which may have read texts of any lengths.

        A step of decoding then reads one token of each row. What `activate_past_recording` recorded
        is left out.

        Args:
            caches: caches of the same model that are not empty.

        Raises:
            ValueError: a cache holds keys and values, whose lengths would differ.

        Example:
            >>> import torch
            >>> from hyperagg.language import HyperAggCache, HyperAggConfig, HyperAggForCausalLM
            >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
            >>> model = HyperAggForCausalLM(config).eval()
            >>> caches = [model(torch.ones(1, n).long()).past_key_values for n in (3, 5)]
            >>> cache = HyperAggCache.concatenate(caches)
            >>> model(torch.tensor([[1], [2]]), past_key_values=cache).logits.shape
            torch.Size([2, 1, 10])
        """
        if not all(cache.has_fixed_size for cache in caches):
            raise ValueError("caches: hold keys and values; expected layers of sums alone")
        joined = caches[0]._copy_layers()
        joined_layers: list[Any] = joined.layers
        for index, layer in enumerate(joined_layers):
            layer._concatenate([cache.layers[index] for cache in caches])
        return joined

    def _copy_layers(self) -> HyperAggCache:
        copied = copy.copy(self)
        copied.layers = [copy.copy(layer) for layer in self.layers]
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> HyperAggCache:
        """Return a copy that does not change with this cache; gradients flow to both."""
        copied = self._copy_layers()
        copied.batch_repeat_interleave(1)  # copies the tensors
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: everything but the stream, which belongs to this process."""
        return {name: v for name, v in self.__dict__.items() if name != "prefetch_stream"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.offloading:
            self.prefetch_stream = torch.Stream()


class StaticHyperAggCache(StaticCache):
    """Hold the states, keys and values in tensors of a fixed size, for a compiled decoding step.

    `generate(cache_implementation="static")` creates one.

    Args:
        config: the `HyperAggConfig` of the model.
        max_cache_len: largest number of tokens, prompt included, that attention layers hold.
    """

    def __init__(self, config: PreTrainedConfig, max_cache_len: int) -> None:
        # Not by the table below, where a name may belong to another model.
        Cache.__init__(
            self,
            layers=[
                StaticLayer(max_cache_len)
                if layer_type == "full_attention"
                else StaticAggregationCacheLayer(max_cache_len)
                for layer_type in config.layer_types
            ],
        )


def prepare_cache(cache: Cache, config: PreTrainedConfig) -> None:
    """Fill an empty cache with the layers of a model, or check the layers of one that is not empty.

    Raises:
        TypeError: if the layers of the cache are those of another kind of model.
    """
    if not cache.layers:
        cache.layers.extend(_make_layers(config))
    layer_types = config.layer_types
    # A DynamicCache appends the layers of attention as they are used.
    missing = layer_types[len(cache.layers) :]
    if len(cache.layers) > len(layer_types) or set(missing) - {"full_attention"}:
        raise TypeError(
            f"past_key_values: {len(cache.layers)} layers for a model of {len(layer_types)}; "
            "expected a HyperAggCache(config) or an empty DynamicCache()"
        )
    for layer, layer_type in zip(cache.layers, layer_types):
        if (layer_type == "full_attention") == hasattr(layer, "update_state"):
            raise TypeError(
                f"past_key_values: the layer for {layer_type!r} is a {type(layer).__name__}; "
                "expected a HyperAggCache(config) or an empty DynamicCache()"
            )


def _make_layers(config: PreTrainedConfig) -> list[Any]:
    return [
        DynamicLayer() if layer_type == "full_attention" else AggregationCacheLayer()
        for layer_type in config.layer_types
    ]


def _shortened(history: StateHistory, num_latest: int) -> StateHistory:
    """The history of the last tokens."""
    start = history.sums.shape[1] - 1 - num_latest
    inputs = history.conv_inputs
    return StateHistory(history.sums[:, start:], None if inputs is None else inputs[:, start:])


def _joined_history(before: MixerState, history: StateHistory) -> StateHistory:
    """The history of the preceding tokens, followed by that of the new ones."""
    assert before.history is not None
    sums = torch.cat([before.history.sums, history.sums[:, 1:]], 1)
    inputs = before.history.conv_inputs
    if before.conv_state is None or history.conv_inputs is None or inputs is None:
        return StateHistory(sums, None)
    new = history.conv_inputs[:, before.conv_state.shape[1] :]
    return StateHistory(sums, torch.cat([inputs, new], 1))


# DynamicCache(config=...) and StaticCache(config, ...) look the layer types up in these tables.
# Models of all kinds share them, so that no entry is replaced.
for _layer_type in set(LAYER_TYPES) - {"full_attention"}:
    DYNAMIC_LAYER_TYPE_MAPPING.setdefault(_layer_type, AggregationCacheLayer)
    STATIC_LAYER_TYPE_MAPPING.setdefault(_layer_type, StaticAggregationCacheLayer)
