"""States of language models by the tokens that they have read."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from hyperagg.language import HyperAggCache

__all__ = ["StateCache"]


class StateCache:
    """Keep the states after token prefixes, and forget the least recently used.

    A state of sums has the same size after any number of tokens. What has attention layers grows
    with the number of tokens, and is bounded by the same number of bytes.

    Only one thread may use it.

    Args:
        max_bytes: the size of all kept states; 0 keeps none.
        max_entries: their number.

    Cost: `find` hashes the tokens once, in O(n) and O(number of different lengths). Tokens are
        kept as a digest of 32 bytes.

    Example:
        >>> import torch
        >>> from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> model = HyperAggForCausalLM(config).eval()
        >>> states = StateCache(max_bytes=10_000, max_entries=10)
        >>> states.keep([1, 2], model(torch.tensor([[1, 2]])).past_key_values)
        >>> states.find([1, 2, 3])[0]
        2
    """

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes, self.max_entries = max_bytes, max_entries
        self.num_bytes = 0
        self._entries: OrderedDict[tuple[int, bytes], HyperAggCache] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tokens: Sequence[int]) -> tuple[int, HyperAggCache | None]:
        """Return the longest kept prefix that is shorter than the tokens.

        Args:
            tokens: token ids.

        Returns:
            The length of the prefix and a copy of its state; 0 and None if there is none.
        """
        data, hasher, read = _as_bytes(tokens), blake2b(digest_size=32), 0
        best = None
        for length in sorted(self._lengths):
            if length >= len(tokens):
                break
            hasher.update(data[read * _ITEM_SIZE : length * _ITEM_SIZE])
            read = length
            key = (length, hasher.copy().digest())
            if key in self._entries:
                best = key
        if best is None:
            return 0, None
        self._entries.move_to_end(best)
        return best[0], copy.deepcopy(self._entries[best])

    def keep(self, tokens: Sequence[int], state: HyperAggCache) -> None:
        """Keep a copy of the state after tokens, unless it is larger than all may be.

        Args:
            tokens: token ids, at least one.
            state: the cache after them, of one row.
        """
        key = (len(tokens), blake2b(_as_bytes(tokens), digest_size=32).digest())
        if key in self._entries:
            self._entries.move_to_end(key)
            return
        size = state.num_bytes
        if size > self.max_bytes or not self.max_entries:
            return
        self._entries[key] = copy.deepcopy(state)
        self._lengths[len(tokens)] += 1
        self.num_bytes += size
        while self.num_bytes > self.max_bytes or len(self._entries) > self.max_entries:
            (length, _), oldest = self._entries.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]


_ITEM_SIZE = 4


def _as_bytes(tokens: Sequence[int]) -> bytes:
    return np.asarray(tokens, dtype=np.uint32).tobytes()
