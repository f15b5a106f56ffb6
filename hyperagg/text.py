"""Text to token ids: words, their vocabulary, and ragged rows of ids.

    words(text)  =  every match of  \\w+|[^\\w\\s]  in the lower-cased text

The regular expression is the definition; the compiled scan below is how it is computed, over the
UTF-8 bytes of whole batches. In ASCII text one byte says what it is. In other text every
non-ASCII mark that is no letter is first set apart by spaces, after which a byte above 127 can
only belong to a word, so that the same scan serves all languages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numba import njit

__all__ = ["HubTokenizer", "Ragged", "Tokenizer", "WordTokenizer", "read_tokenizer", "settled"]

UNKNOWN = "[UNK]"

WORDS = re.compile(r"\w+|[^\w\s]")
_NO_WORD, _SPACE_RUN = re.compile(r"\W+"), re.compile(r"\s+")
_NON_ASCII_MARK = re.compile(r"[^\w\s\x00-\x7f]")
_NON_ASCII_SPACE = re.compile(r"[^\S\x00-\x7f]")
_SPACE, _WORD, _MARK = 0, 1, 2


def _byte_kinds() -> np.ndarray:
    kinds = np.full(256, _WORD, dtype=np.uint8)
    for byte in range(128):
        character = chr(byte)
        if character.isspace():
            kinds[byte] = _SPACE
        elif not (character.isalnum() or character == "_"):
            kinds[byte] = _MARK
    return kinds


_KINDS = _byte_kinds()


@dataclass(frozen=True)
class Ragged:
    """Rows of token ids of unequal length, end to end.

    `token_ids` (T,) int32 holds all rows; row i is token_ids[cu_seqlens[i]:cu_seqlens[i + 1]].
    """

    token_ids: np.ndarray
    cu_seqlens: np.ndarray

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.cu_seqlens)

    def take(self, rows: np.ndarray) -> Ragged:
        """The named rows, in the order named. Cost: O(tokens taken)."""
        starts, lengths = self.cu_seqlens[rows], self.lengths[rows]
        borders = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(borders[-1]) + np.repeat(starts - borders[:-1], lengths)
        return Ragged(self.token_ids[places], borders)

    def truncate(self, length: int) -> Ragged:
        """The first `length` tokens of every row."""
        lengths = np.minimum(self.lengths, length)
        borders = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(borders[-1]) + np.repeat(self.cu_seqlens[:-1] - borders[:-1], lengths)
        return Ragged(self.token_ids[places], borders)

    def padded(self, length: int | None = None, front: bool = False) -> np.ndarray:
        """(rows, length) ids with 0 where a row is shorter; a longer row is cut where padding
        would go. `front` pads (and cuts) in front of the row, as Keras does."""
        lengths = self.lengths
        width = int(length if length is not None else lengths.max(initial=0))
        kept = np.minimum(lengths, width)
        skipped = lengths - kept if front else np.zeros_like(lengths)
        shift = width - kept if front else np.zeros_like(lengths)
        rows = np.repeat(np.arange(len(self)), kept)
        borders = np.concatenate([[0], np.cumsum(kept)])
        within = np.arange(borders[-1]) - np.repeat(borders[:-1], kept)
        out = np.zeros((len(self), width), dtype=self.token_ids.dtype)
        source = within + np.repeat(self.cu_seqlens[:-1] + skipped, kept)
        out[rows, within + np.repeat(shift, kept)] = self.token_ids[source]
        return out


class Tokenizer(Protocol):
    """What a model needs of a tokenizer."""

    @property
    def vocabulary(self) -> list[str]: ...

    def encode(self, texts: Sequence[str]) -> Ragged: ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of `encode([text])` stand in the text: first and last character + 1."""
        ...

    def to_json(self) -> str: ...


class WordTokenizer:
    """Lower-cased words and single punctuation marks; id 0 is [UNK], then by falling frequency.

    Args:
        vocabulary: the known words; the first must be "[UNK]".
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if not vocabulary or vocabulary[0] != UNKNOWN:
            raise ValueError(f"vocabulary: its first entry must be {UNKNOWN!r}")
        self.vocabulary = list(vocabulary)
        # [UNK] is no word a text can hold (the scan splits at brackets), so it needs no slot.
        self._table = _build_table(_hash_words(self.vocabulary[1:]))

    @classmethod
    def train(
        cls, texts: Sequence[str], max_words: int = 200_000, min_count: int = 1
    ) -> WordTokenizer:
        """The words of `texts` with at least `min_count` uses, the `max_words` most used of them.

        Equal counts are ordered by first appearance, so the same texts give the same vocabulary.
        Cost: one scan of the bytes and one sort of the words.
        """
        data, borders = _to_bytes(texts)
        hashes, starts, ends = _scan_words(data, borders)
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        order = np.lexsort((first, -counts))
        order = order[counts[order] >= min_count][:max_words]
        raw = data.tobytes()
        words = [raw[starts[i] : ends[i]].decode("utf-8", "replace") for i in first[order]]
        return cls([UNKNOWN, *words])

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Token ids of every text; unknown words are id 0. Cost: O(bytes)."""
        data, borders = _to_bytes(texts)
        counts = np.empty(len(texts), dtype=np.int64)
        _count_tokens(data, borders, _KINDS, counts)
        cu_seqlens = np.concatenate([[0], np.cumsum(counts)])
        token_ids = np.empty(cu_seqlens[-1], dtype=np.int32)
        _look_up(data, borders, _KINDS, *self._table, cu_seqlens, token_ids)
        return Ragged(token_ids, cu_seqlens)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of `encode([text])` stand in the text: first and last character + 1.

        A character whose small letter is two (İ) may belong to two tokens.
        """
        # For each character of the lower-cased text the one that it comes from.
        lowered, source = text.lower(), np.arange(len(text))
        if len(lowered) != len(text):
            source = np.repeat(source, [len(character.lower()) for character in text])
        found = [m.span() for m in WORDS.finditer(lowered)]
        return [(int(source[begin]), int(source[end - 1]) + 1) for begin, end in found]

    def to_json(self) -> str:
        """The same tokenizer in the format of Hugging Face tokenizers (tokenizer.json)."""
        from tokenizers import Regex, models, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        ids = {word: i for i, word in enumerate(self.vocabulary)}
        backend = Backend(models.WordLevel(ids, unk_token=UNKNOWN))
        backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.Split(
            Regex(WORDS.pattern), behavior="removed", invert=True
        )
        return backend.to_str()


class HubTokenizer:
    """Any tokenizer of the Hugging Face `tokenizers` library, as a model's tokenizer."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @property
    def vocabulary(self) -> list[str]:
        ids = self.backend.get_vocab()
        words = [""] * (max(ids.values()) + 1)
        for word, i in ids.items():
            words[i] = word
        return words

    def encode(self, texts: Sequence[str]) -> Ragged:
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        cu_seqlens = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        token_ids = np.fromiter((i for row in rows for i in row), np.int32, count=cu_seqlens[-1])
        return Ragged(token_ids, cu_seqlens)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of `encode([text])` stand in the text: first and last character + 1."""
        return list(self.backend.encode(text, add_special_tokens=False).offsets)

    def to_json(self) -> str:
        return self.backend.to_str()


def settled(text: str) -> int:
    """Up to which character the tokens of a text stay what they are, whatever text follows.

    A word may go on; a mark may not. And a capital sigma is made small by what stands after it in
    the same run without spaces.
    """
    end = max((m.end() for m in _NO_WORD.finditer(text)), default=0)
    if "Σ" in text[:end]:
        end = max((m.end() for m in _SPACE_RUN.finditer(text)), default=0)
    return end


def read_tokenizer(text: str) -> Tokenizer:
    """A tokenizer from the text of a tokenizer.json; our own words get the compiled scan."""
    import json

    from tokenizers import Tokenizer as Backend

    description = json.loads(text)
    split = (description.get("pre_tokenizer") or {}).get("pattern", {}).get("Regex")
    if description["model"]["type"] == "WordLevel" and split == WORDS.pattern:
        ids = description["model"]["vocab"]
        return WordTokenizer(sorted(ids, key=ids.__getitem__))
    return HubTokenizer(Backend.from_str(text))


def _set_marks_apart(text: str) -> str:
    text = _NON_ASCII_MARK.sub(r" \g<0> ", text)
    return _NON_ASCII_SPACE.sub(" ", text)


def _to_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 of the lower-cased texts end to end, and their borders."""
    rows = []
    for text in texts:
        text = text.lower()
        if not text.isascii():
            text = _set_marks_apart(text)
        rows.append(text.encode("utf-8", "replace"))
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return np.frombuffer(b"".join(rows), dtype=np.uint8), borders


def _hash_words(words: Sequence[str]) -> np.ndarray:
    rows = [word.encode("utf-8", "replace") for word in words]
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    hashes = np.empty(len(rows), dtype=np.uint64)
    _hash_rows(np.frombuffer(b"".join(rows), dtype=np.uint8), borders, hashes)
    return hashes


def _scan_words(data: np.ndarray, borders: np.ndarray) -> tuple[np.ndarray, ...]:
    counts = np.empty(len(borders) - 1, dtype=np.int64)
    _count_tokens(data, borders, _KINDS, counts)
    total = int(counts.sum())
    hashes = np.empty(total, dtype=np.uint64)
    starts, ends = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    _hash_tokens(data, borders, _KINDS, hashes, starts, ends)
    return hashes, starts, ends


# The 64-bit FNV-1a hash. With 64 bits two words of one vocabulary collide with a chance of about
# V^2 / 2^65: below 1e-8 for half a million words.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@njit(nogil=True, cache=True, inline="always")
def _hash(data, start, end):
    value = _OFFSET
    for i in range(start, end):
        value = (value ^ np.uint64(data[i])) * _PRIME
    # FNV mixes its low bits little; the table below indexes by them.
    return value ^ (value >> np.uint64(32))


@njit(nogil=True, cache=True, inline="always")
def _token_end(data, kinds, start, end):
    """Where the token that starts at `start` ends: a mark is one byte, a word is a run."""
    if kinds[data[start]] == _MARK:
        return start + 1
    stop = start + 1
    while stop < end and kinds[data[stop]] == _WORD:
        stop += 1
    return stop


@njit(nogil=True, cache=True)
def _hash_rows(data, borders, hashes):
    for row in range(len(hashes)):
        hashes[row] = _hash(data, borders[row], borders[row + 1])


@njit(nogil=True, cache=True)
def _count_tokens(data, borders, kinds, counts):
    for row in range(len(counts)):
        i, end, count = borders[row], borders[row + 1], 0
        while i < end:
            if kinds[data[i]] == _SPACE:
                i += 1
            else:
                i = _token_end(data, kinds, i, end)
                count += 1
        counts[row] = count


@njit(nogil=True, cache=True)
def _hash_tokens(data, borders, kinds, hashes, starts, ends):
    token = 0
    for row in range(len(borders) - 1):
        i, end = borders[row], borders[row + 1]
        while i < end:
            if kinds[data[i]] == _SPACE:
                i += 1
                continue
            stop = _token_end(data, kinds, i, end)
            hashes[token] = _hash(data, i, stop)
            starts[token], ends[token] = i, stop
            token += 1
            i = stop


@njit(nogil=True, cache=True)
def _look_up(data, borders, kinds, keys, values, cu_seqlens, token_ids):
    last = np.uint64(len(keys) - 1)
    for row in range(len(borders) - 1):
        i, end, token = borders[row], borders[row + 1], cu_seqlens[row]
        while i < end:
            if kinds[data[i]] == _SPACE:
                i += 1
                continue
            stop = _token_end(data, kinds, i, end)
            key = _hash(data, i, stop)
            slot = key & last
            while values[slot] != 0 and keys[slot] != key:
                slot = (slot + np.uint64(1)) & last
            token_ids[token] = values[slot]
            token += 1
            i = stop


@njit(nogil=True, cache=True)
def _fill_table(hashes, keys, values):
    last = np.uint64(len(keys) - 1)
    for i in range(len(hashes)):
        slot = hashes[i] & last
        while values[slot] != 0 and keys[slot] != hashes[i]:
            slot = (slot + np.uint64(1)) & last
        keys[slot] = hashes[i]
        values[slot] = i + 1


def _build_table(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Open addressing at most half full: slot -> (hash, id); id 0 marks an empty slot."""
    size = 1 << max(4, int(2 * len(hashes)).bit_length())
    keys, values = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.int32)
    _fill_table(hashes, keys, values)
    return keys, values
