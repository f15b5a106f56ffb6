"""Tokenizers: they split texts into tokens and map the tokens to ids.

    words(text)  =  every match of  \\w+|[^\\w\\s]  in the lower-cased text

`hyperagg.text.scan` computes this definition; this module holds the vocabulary and its file format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from hyperagg.text import scan
from hyperagg.text.hash_table import build_table, count_hashes
from hyperagg.text.ragged import Ragged

__all__ = [
    "UNKNOWN",
    "WORD_PATTERN",
    "Alignment",
    "HubTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "is_ngram",
    "read_tokenizer",
    "register_tokenizer",
    "stable_length",
]

UNKNOWN = "[UNK]"
WORD_PATTERN = re.compile(r"\w+|[^\w\s]")
_NON_WORD_RUN, _SPACE_RUN = re.compile(r"\W+"), re.compile(r"\s+")


class Alignment(NamedTuple):
    """Maps the tokens of a text to the words that they stand for.

    Attributes:
        spans: the first character of each word in the text and its last character + 1.
        owners: (T, 2) int64, the first and the last word that each token stands for.
    """

    spans: list[tuple[int, int]]
    owners: np.ndarray


class Tokenizer(Protocol):
    """What a model requires of a tokenizer."""

    @property
    def vocabulary(self) -> list[str]:
        """The entry of each token id."""
        ...

    def __len__(self) -> int:
        """Return the number of token ids."""
        ...

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the token ids of every text."""
        ...

    def align(self, text: str) -> Alignment:
        """Return the words that the tokens of `encode([text])` stand for."""
        ...

    def to_json(self) -> str:
        """Return the text of a tokenizer.json that `read_tokenizer` reads."""
        ...


class WordTokenizer:
    """Split texts into lower-cased words and single punctuation marks.

    Id 0 is "[UNK]". The other words follow by decreasing frequency, and after them the n-grams.
    A word is followed by those of its n-grams that the vocabulary has: the word bigram that it ends
    ("crude oil") and, for a word of more than five characters, its prefix ("petro*") and its suffix
    ("*eum"), which say something about a word that the vocabulary lacks.

    Args:
        vocabulary: the known words and n-grams; the first entry is "[UNK]".

    Attributes:
        vocabulary: the entry of each token id.
        ngram_mask: (V,) bool, True for the entries that are n-grams.
        has_ngrams: whether any entry is an n-gram.
        table: the hash table that `scan.look_up` reads.

    Raises:
        ValueError: the first entry of the vocabulary is not "[UNK]".

    Example:
        >>> tokenizer = WordTokenizer.train(["Oil prices rose.", "Oil fell."])
        >>> tokenizer.vocabulary
        ['[UNK]', 'oil', '.', 'prices', 'rose', 'fell']
        >>> tokenizer.encode(["Oil soared."]).token_ids.tolist()
        [1, 0, 2]
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if not vocabulary or vocabulary[0] != UNKNOWN:
            first = repr(vocabulary[0]) if vocabulary else "no entry"
            raise ValueError(f"vocabulary: expected {UNKNOWN!r} as the first entry, got {first}")
        self.vocabulary = list(vocabulary)
        self.ngram_mask = np.fromiter(map(is_ngram, self.vocabulary), dtype=bool)
        self.has_ngrams = bool(self.ngram_mask.any())
        # A text cannot contain the word "[UNK]" (the scan splits at brackets): it needs no slot.
        self.table = build_table(scan.hash_vocabulary(self.vocabulary[1:]))

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        max_words: int = 200_000,
        min_count: int = 1,
        max_ngrams: int = 0,
    ) -> WordTokenizer:
        """Build the vocabulary from texts.

        Entries with equal counts are ordered by first appearance, so the same texts always give the
        same vocabulary.

        Args:
            texts: the training texts.
            max_words: the maximum number of words; the most frequent words are kept.
            min_count: words and n-grams with fewer occurrences are dropped.
            max_ngrams: the maximum number of n-grams; the most frequent n-grams are kept.

        Cost: one scan of the bytes and one sort of the distinct words.
        """
        words, ngrams = _words_and_ngrams(texts, max_words, min_count, max_ngrams)
        return cls([UNKNOWN, *words, *ngrams])

    def extended(
        self, texts: Sequence[str], max_words: int, min_count: int, max_ngrams: int
    ) -> WordTokenizer:
        """Return a tokenizer that also knows the new words and n-grams of `texts`.

        The known entries keep their ids, and the limits count them. The arguments are those of
        `train`.
        """
        found = _words_and_ngrams(texts, max_words, min_count, max_ngrams)
        known, known_ngrams = set(self.vocabulary), int(self.ngram_mask.sum())
        limits = max_words - (len(known) - known_ngrams), max_ngrams - known_ngrams
        new = []
        for entries, limit in zip(found, limits):
            new += [entry for entry in entries if entry not in known][: max(0, limit)]
        return WordTokenizer([*self.vocabulary, *new])

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the token ids of every text; an unknown word has id 0. Cost: O(bytes)."""
        return Ragged(*scan.look_up(*scan.texts_to_bytes(texts), self.table, self.has_ngrams))

    def encode_continuation(self, text: str, previous: int) -> tuple[np.ndarray, int, int]:
        """Encode a text that continues another one.

        Args:
            text: the continuation.
            previous: the hash of the word before it; 0 if there is none.

        Returns:
            the token ids, the number of words, and the hash of the last word.
        """
        token_ids, owners, last = self._look_up(text, previous)
        return token_ids, int(owners.max(initial=-1)) + 1, last

    def align(self, text: str) -> Alignment:
        """Return the words that the tokens of `encode([text])` stand for.

        A character whose lower-case form has two characters (İ) may belong to two words.
        """
        # For each character of the lower-cased text, the character that it comes from.
        lowered, source = text.lower(), np.arange(len(text))
        if len(lowered) != len(text):
            source = np.repeat(source, [len(character.lower()) for character in text])
        found = [match.span() for match in WORD_PATTERN.finditer(lowered)]
        spans = [(int(source[begin]), int(source[end - 1]) + 1) for begin, end in found]
        return Alignment(spans, self._look_up(text)[1])

    def to_json(self) -> str:
        """Return the text of a tokenizer.json in the format of Hugging Face tokenizers.

        That library gives the words the same ids; it never looks up the n-grams.
        """
        split = {
            "type": "Split",
            "pattern": {"Regex": WORD_PATTERN.pattern},
            "behavior": "Removed",
            "invert": True,
        }
        ids = {entry: i for i, entry in enumerate(self.vocabulary)}
        description: dict[str, Any] = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": split,
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN},
        }
        return json.dumps(description, ensure_ascii=False, separators=(",", ":"))

    def _look_up(self, text: str, previous: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
        data, borders = scan.texts_to_bytes([text])
        return scan.look_up_continuation(data, borders, self.table, self.has_ngrams, previous)


def is_ngram(entry: str) -> bool:
    """Return whether an entry of a WordTokenizer's vocabulary is an n-gram rather than a word.

    Example:
        >>> [is_ngram(entry) for entry in ("oil", "crude oil", "petro*", "*eum", "*")]
        [False, True, True, True, False]
    """
    return len(entry) > 1 and (" " in entry or entry[0] == "*" or entry[-1] == "*")


def _words_and_ngrams(
    texts: Sequence[str], max_words: int, min_count: int, max_ngrams: int
) -> tuple[list[str], list[str]]:
    data, borders = scan.texts_to_bytes(texts)
    hashes, starts, ends, ngram_hashes = scan.scan(data, borders, max_ngrams > 0)
    words = _most_frequent(hashes, max_words, min_count)
    ngrams = _most_frequent(ngram_hashes.reshape(-1), max_ngrams, min_count)
    return (
        scan.entry_texts(data, starts, ends, words, ngrams=False),
        scan.entry_texts(data, starts, ends, ngrams, ngrams=True),
    )


def _most_frequent(hashes: np.ndarray, limit: int, min_count: int) -> np.ndarray:
    """Positions of the first occurrences of the most frequent hashes, the most frequent first."""
    counts, firsts = count_hashes(hashes)
    if 0 < limit < len(counts):
        # The hashes as frequent as the last one kept are chosen by first appearance below.
        min_count = max(min_count, int(np.partition(counts, -limit)[-limit]))
    kept = counts >= min_count
    counts, firsts = counts[kept], firsts[kept]
    return firsts[np.lexsort((firsts, -counts))[:limit]]


class HubTokenizer:
    """Adapt a tokenizer of the Hugging Face `tokenizers` library to `Tokenizer`.

    Args:
        backend: a `tokenizers.Tokenizer`.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @property
    def vocabulary(self) -> list[str]:
        """The entry of each token id; an id without an entry has the empty string."""
        ids = self.backend.get_vocab()
        entries = [""] * (max(ids.values()) + 1)
        for entry, i in ids.items():
            entries[i] = entry
        return entries

    def __len__(self) -> int:
        return max(self.backend.get_vocab().values()) + 1

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the token ids of every text, without special tokens."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        cu_seqlens = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        token_ids = np.fromiter((i for row in rows for i in row), np.int32, count=cu_seqlens[-1])
        return Ragged(token_ids, cu_seqlens)

    def align(self, text: str) -> Alignment:
        """Return an alignment in which every token is a word of its own."""
        spans = list(self.backend.encode(text, add_special_tokens=False).offsets)
        return Alignment(spans, np.arange(len(spans))[:, None].repeat(2, 1))

    def to_json(self) -> str:
        """Return the text of the backend's tokenizer.json."""
        return self.backend.to_str()


def stable_length(text: str) -> int:
    """Return how many characters of a text have tokens that no continuation can change.

    A word may continue; a punctuation mark may not. A capital sigma has a lower-case form that
    depends on the characters after it in the same run without spaces.
    """
    end = max((m.end() for m in _NON_WORD_RUN.finditer(text)), default=0)
    if "Σ" in text[:end]:
        end = max((m.end() for m in _SPACE_RUN.finditer(text)), default=0)
    return end


_readers: dict[str, Callable[[str], Tokenizer]] = {}


def register_tokenizer(kind: str, reader: Callable[[str], Tokenizer]) -> None:
    """Register the function that reads a tokenizer.json of one kind.

    Args:
        kind: the value of "kind" in the file, such as "mypackage.MyTokenizer".
        reader: takes the text of the file and returns the tokenizer.
    """
    _readers[kind] = reader


def read_tokenizer(text: str) -> Tokenizer:
    """Read a tokenizer from the text of a tokenizer.json.

    A file with a "kind" goes to the reader that is registered for this kind, the file of a
    `WordTokenizer` becomes one, and any other file is read by the Hugging Face `tokenizers`
    library.

    Raises:
        ValueError: the text is not the JSON of a tokenizer, or its kind is not registered.
        ImportError: the `tokenizers` library is required and not installed.
    """
    try:
        description = json.loads(text)
    except RecursionError as error:
        raise ValueError("the JSON of the tokenizer is nested too deeply") from error
    if not isinstance(description, dict):
        raise ValueError("tokenizer: expected a JSON object")
    if "kind" in description:
        kind = description["kind"]
        if not isinstance(kind, str) or kind not in _readers:
            known = ", ".join(map(repr, sorted(_readers))) or "no kind (none is registered)"
            raise ValueError(f"tokenizer: kind={kind!r}: expected {known}")
        return _readers[kind](text)
    vocabulary = _word_vocabulary(description)
    if vocabulary is not None:
        return WordTokenizer(_by_id(vocabulary))
    try:
        from tokenizers import Tokenizer as Backend
    except ImportError as error:
        raise ImportError(
            "this model's tokenizer requires the tokenizers library: "
            "pip install 'hyperagg[tokenizers]'"
        ) from error
    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the library raises plain Exceptions
        raise ValueError(f"not a tokenizer of the tokenizers library ({error})") from error
    return HubTokenizer(backend)


def _word_vocabulary(description: dict[str, Any]) -> dict[str, int] | None:
    """The vocabulary of a file that `WordTokenizer.to_json` wrote; None for any other file."""
    model, split = description.get("model"), description.get("pre_tokenizer")
    if not isinstance(model, dict) or not isinstance(split, dict):
        return None
    pattern, vocabulary = split.get("pattern"), model.get("vocab")
    if model.get("type") != "WordLevel" or pattern != {"Regex": WORD_PATTERN.pattern}:
        return None
    return vocabulary if isinstance(vocabulary, dict) else None


def _by_id(vocabulary: dict[str, int]) -> list[str]:
    entries = list(vocabulary)
    try:
        ids = np.fromiter(vocabulary.values(), dtype=np.int64, count=len(entries))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("vocab: expected an integer id per entry") from error
    order = ids.argsort(kind="stable")
    if not np.array_equal(ids[order], np.arange(len(entries))):
        raise ValueError(f"vocab: expected the ids 0 to {len(entries) - 1}")
    return entries if (np.diff(ids) > 0).all() else [entries[i] for i in order]
