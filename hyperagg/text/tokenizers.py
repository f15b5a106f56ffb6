"""Tokenizers: they split texts into tokens and map the tokens to ids.

`hyperagg.text.scan` splits and hashes; this module holds the vocabulary and its file format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from reprlib import repr as shorten
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from hyperagg._common.saved_files import UnsupportedError, parse_json
from hyperagg.text import entries, normalization, scan, segmentation
from hyperagg.text.hash_table import build_table
from hyperagg.text.ragged import Ragged
from hyperagg.text.tokenizer_errors import raise_as_tokenizer_error
from hyperagg.text.tokenizer_file import check_tokenizer_file

__all__ = [
    "UNKNOWN",
    "WORD_PATTERN",
    "Alignment",
    "FeatureChoice",
    "Features",
    "HubTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "ngram_mask",
    "read_tokenizer",
    "register_tokenizer",
]

UNKNOWN = "[UNK]"
WORD_PATTERN = re.compile(r"\w+|[^\w\s]")

KIND = "hyperagg.WordTokenizer"
Features = Literal["words", "ngrams", "chars"]
FeatureChoice = Literal["auto", "words", "ngrams", "chars"]
# Of "auto" and of "chars"; docs/log.md has what they were chosen by.
_MANY_RARE_TOKENS, _SAMPLED_CHARACTERS = 0.2, 150_000
_MAX_WORDS, _MAX_NGRAMS = 50_000, 150_000
_LEVELS = {"words": scan.WORDS, "ngrams": scan.NGRAMS, "chars": scan.CHARS}


class Alignment(NamedTuple):
    """Maps the tokens of a text to the words that they stand for.

    Attributes:
        spans: the first character of each word in the text and its last character + 1.
        owners: (T, 2) int64, the first and the last of the words that each token stands for.
    """

    spans: list[tuple[int, int]]
    owners: np.ndarray

    def by_word(self, contributions: np.ndarray) -> np.ndarray:
        """Sum the contributions (T, C) of tokens by word, (words, C); a token that stands for
        several words contributes equally to each.

        There may be fewer tokens than owners, if a model reads the beginning of a text only.
        """
        owners = self.owners[: len(contributions)]
        sums = np.zeros((int(owners.max(initial=-1)) + 1, contributions.shape[1]))
        first, last = owners.T
        for k in range(int((last - first).max(initial=-1)) + 1):
            own = last - first >= k
            shares = (last - first + 1)[own, None]
            np.add.at(sums, first[own] + k, contributions[own] / shares)
        return sums


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
    """Split texts into words, single marks, and single letters where words are not separated.

    Texts are normalized first; see `hyperagg.text.normalization`. Id 0 is "[UNK]". The other words
    follow by decreasing frequency, and after them the n-grams. A word is followed by those of its
    n-grams that the vocabulary has:

    - "ngrams": the word bigram that it ends ("crude oil") and, for a word of more than five
      characters, its prefix ("petro*") and its suffix ("*eum"), which say something about a word
      that the vocabulary lacks. Letters of scripts that do not separate words (Han, kana, Thai,
      Lao, Khmer, Myanmar, Tibetan) have n-grams of up to four letters.
    - "chars": the same, but instead of prefix and suffix all n-grams of one to four characters
      ("*role*") and those of one to three at both ends ("pe*", "*um").

    Args:
        vocabulary: the known words and n-grams; the first entry is "[UNK]".
        features: "words", "ngrams" or "chars", what is looked up.

    Attributes:
        vocabulary: the entry of each token id.
        features: as given.
        ngram_mask: (V,) bool, True for the entries that are n-grams.
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

    def __init__(self, vocabulary: Sequence[str], features: Features = "words") -> None:
        if not vocabulary or vocabulary[0] != UNKNOWN:
            first = repr(vocabulary[0]) if vocabulary else "no entry"
            raise ValueError(f"vocabulary: expected {UNKNOWN!r} as the first entry, got {first}")
        self.vocabulary = list(vocabulary)
        self.features: Features = features
        self.level = _LEVELS[features]
        # A text cannot contain the word "[UNK]" (the scan splits at brackets): it needs no slot.
        hashes, kinds = entries.hash_vocabulary(self.vocabulary[1:])
        self.kinds = np.concatenate([[0], kinds])
        self.ngram_mask = self.kinds > 0
        self.table = build_table(hashes)

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        max_words: int = 200_000,
        min_count: int = 1,
        max_ngrams: int = 0,
        features: FeatureChoice = "ngrams",
    ) -> WordTokenizer:
        """Build the vocabulary from texts.

        Entries with equal counts are ordered by first appearance, so the same texts always give the
        same vocabulary.

        Args:
            texts: the training texts.
            max_words: the maximum number of words; the most frequent words are kept.
            min_count: words and n-grams with fewer occurrences are dropped.
            max_ngrams: the maximum number of n-grams; the most frequent n-grams are kept.
            features: which n-grams are counted; "auto" is "chars" if more than a fifth of the
                tokens of a sample of the texts occur only once, and "ngrams" otherwise. With
                "chars" there are at most 50,000 words and 150,000 n-grams.

        Cost: one scan of the bytes and one sort of the distinct words.
        """
        chosen = _choose_features(texts) if features == "auto" else features
        if max_ngrams == 0:
            chosen = "words"
        words, ngrams = _words_and_ngrams(texts, max_words, min_count, max_ngrams, chosen)
        return cls([UNKNOWN, *words, *ngrams], chosen)

    def extended(
        self, texts: Sequence[str], max_words: int, min_count: int, max_ngrams: int
    ) -> WordTokenizer:
        """Return a tokenizer that also knows the new words and n-grams of `texts`.

        The known entries keep their ids, and the limits count them. The arguments are those of
        `train`.
        """
        found = _words_and_ngrams(texts, max_words, min_count, max_ngrams, self.features)
        known, known_ngrams = set(self.vocabulary), int(self.ngram_mask.sum())
        limits = max_words - (len(known) - known_ngrams), max_ngrams - known_ngrams
        new = []
        for own, limit in zip(found, limits):
            new += [entry for entry in own if entry not in known][: max(0, limit)]
        return WordTokenizer([*self.vocabulary, *new], self.features)

    def subset(self, ids: Sequence[int]) -> WordTokenizer:
        """Return a tokenizer of the entries with these ids, the first of which is 0."""
        return WordTokenizer([self.vocabulary[i] for i in ids], self.features)

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the token ids of every text; an unknown word has id 0. Cost: O(bytes)."""
        return Ragged(*scan.look_up(*normalization.texts_to_bytes(texts), self.table, self.level))

    def encode_continuation(self, text: str, context: np.ndarray) -> tuple[np.ndarray, int]:
        """Encode a text that continues another one.

        Args:
            text: the continuation.
            context: from `scan.new_context` for the beginning of a text; it is updated.

        Returns:
            the token ids, and the number of words.
        """
        token_ids, owners = self._look_up(text, context)
        return token_ids, int(owners.max(initial=-1)) + 1

    def align(self, text: str) -> Alignment:
        """Return the words that the tokens of `encode([text])` stand for.

        Words are contiguous characters of the text: a part of a ligature is the whole of it.
        """
        data = normalization.text_to_bytes(text)
        borders = segmentation.token_borders(data)
        # The number of characters that begin before each byte.
        before = np.concatenate([[0], np.cumsum(data & 0xC0 != 0x80)])
        source = normalization.source_characters(text)
        spans = np.column_stack(
            [source[before[borders[:, 0]], 0], source[before[borders[:, 1]] - 1, 1]]
        )
        return Alignment(
            [(begin, end) for begin, end in spans.tolist()],
            self._look_up(text, scan.new_context())[1],
        )

    def to_json(self) -> str:
        """Return the text of a tokenizer.json."""
        content = {"kind": KIND, "features": self.features, "vocabulary": self.vocabulary}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> WordTokenizer:
        """Read the tokenizer that `to_json` wrote.

        Raises:
            ValueError: the text is not the JSON of such a tokenizer.
        """
        content: Any = parse_json(text)
        vocabulary, features = content.get("vocabulary"), content.get("features")
        if not isinstance(vocabulary, list) or not all(isinstance(e, str) for e in vocabulary):
            raise ValueError("vocabulary: expected a list of strings")
        if len(set(vocabulary)) < len(vocabulary):
            raise ValueError("vocabulary: expected different entries")
        if features not in get_args(Features):
            expected = ", ".join(map(repr, get_args(Features)))
            raise ValueError(f"features={shorten(features)}: expected one of {expected}")
        return cls(vocabulary, features)

    def _look_up(self, text: str, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        data, borders = normalization.texts_to_bytes([text])
        return scan.look_up_continuation(data, borders, self.table, self.level, context)


def ngram_mask(tokenizer: Tokenizer) -> np.ndarray:
    """Return (V,) bool, True for the entries of a tokenizer that are n-grams rather than words.

    Example:
        >>> ngram_mask(WordTokenizer(["[UNK]", "oil", "crude oil", "petro*", "*"])).tolist()
        [False, False, True, True, False]
    """
    if isinstance(tokenizer, WordTokenizer):
        return tokenizer.ngram_mask
    return np.zeros(len(tokenizer), dtype=bool)


def _choose_features(texts: Sequence[str]) -> Features:
    """What "auto" stands for.

    The fraction of the tokens that occur once estimates the probability of a token that was not
    seen (Good 1953). In a sample of texts of a fixed length it depends on the language and its
    words, on how many languages there are, and on the script, but not on the number of texts.
    """
    characters = sum(map(len, texts))
    number = len(texts) * _SAMPLED_CHARACTERS // max(1, characters) + 1
    if number < len(texts):
        texts = [texts[i * len(texts) // number] for i in range(number)]
    data, borders = normalization.texts_to_bytes(texts)
    counts, _ = scan.count_occurrences(data, borders, scan.WORDS)
    return "chars" if (counts == 1).sum() > _MANY_RARE_TOKENS * counts.sum() else "ngrams"


def _words_and_ngrams(
    texts: Sequence[str], max_words: int, min_count: int, max_ngrams: int, features: Features
) -> tuple[list[str], list[str]]:
    if features == "chars":
        max_words, max_ngrams = min(max_words, _MAX_WORDS), min(max_ngrams, _MAX_NGRAMS)
    data, borders = normalization.texts_to_bytes(texts)
    counts, firsts = scan.count_occurrences(data, borders, _LEVELS[features])
    is_ngram = scan.kinds_of(firsts) > 0
    words, ngrams = (
        entries.entry_texts(
            data, borders, _most_frequent(counts[chosen], firsts[chosen], limit, min_count)
        )
        for chosen, limit in ((~is_ngram, max_words), (is_ngram, max_ngrams))
    )
    return words, ngrams


def _most_frequent(
    counts: np.ndarray, firsts: np.ndarray, limit: int, min_count: int
) -> np.ndarray:
    """The first occurrences of the most frequent hashes, the most frequent first."""
    if 0 < limit < len(counts):
        # The hashes as frequent as the last one kept are chosen by first appearance below.
        min_count = max(min_count, int(np.partition(counts, -limit)[-limit]))
    kept = counts >= min_count
    counts, firsts = counts[kept], firsts[kept]
    return firsts[np.lexsort((firsts, -counts))[:limit]]


class HubTokenizer:
    """Adapt a tokenizer of the Hugging Face `tokenizers` library to `Tokenizer`.

    Padding is switched off, in a copy of the tokenizer: the token ids of a text would depend on the
    texts beside it.

    Args:
        backend: a `tokenizers.Tokenizer`.

    Raises:
        ValueError, TypeError: it is not one that `read_tokenizer` reads again.
    """

    def __init__(self, backend: Any) -> None:
        text = backend.to_str()
        check_tokenizer_file(parse_json(text))
        self.backend = type(backend).from_str(text)
        self.backend.no_padding()

    @property
    def vocabulary(self) -> list[str]:
        """The entry of each token id."""
        ids = self.backend.get_vocab()
        return sorted(ids, key=ids.__getitem__)

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the token ids of every text, without special tokens.

        Raises:
            ValueError: the tokenizer fails, for example because it has no token for what is
                unknown, or because a regular expression takes too long.
        """
        with raise_as_tokenizer_error():
            encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        cu_seqlens = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        token_ids = np.fromiter((i for row in rows for i in row), np.int32, count=cu_seqlens[-1])
        return Ragged(token_ids, cu_seqlens)

    def align(self, text: str) -> Alignment:
        """Return an alignment in which every token is a word of its own.

        Raises:
            ValueError: the tokenizer fails, as in `encode`.
        """
        with raise_as_tokenizer_error():
            spans = list(self.backend.encode(text, add_special_tokens=False).offsets)
        return Alignment(spans, np.arange(len(spans))[:, None].repeat(2, 1))

    def to_json(self) -> str:
        """Return the text of the backend's tokenizer.json."""
        return self.backend.to_str()


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

    A file with a "kind" goes to the reader that is registered for this kind, and any other file is
    read by the Hugging Face `tokenizers` library.

    Raises:
        ValueError: the text is not the JSON of a tokenizer, its kind is not registered, or an
            earlier version of hyperagg wrote it.
        ImportError: the `tokenizers` library is required and not installed.
    """
    description = parse_json(text)
    if "kind" in description:
        kind = description["kind"]
        if not isinstance(kind, str) or kind not in _readers:
            known = ", ".join(map(repr, sorted(_readers))) or "no kind (none is registered)"
            raise ValueError(f"tokenizer: kind={shorten(kind)}: expected {known}")
        return _readers[kind](text)
    if _is_superseded(description):
        raise UnsupportedError("written by an earlier version of hyperagg; train the model again")
    check_tokenizer_file(description)  # before the library compiles its regular expressions
    try:
        from tokenizers import Tokenizer as Backend
    except ImportError as error:
        raise ImportError(
            "this model's tokenizer requires the tokenizers library: "
            "pip install 'hyperagg[tokenizers]'"
        ) from error
    with raise_as_tokenizer_error("not a tokenizer of the tokenizers library"):
        backend = Backend.from_str(text)
    return HubTokenizer(backend)


def _is_superseded(description: dict[str, Any]) -> bool:
    """Whether a file is of a `WordTokenizer` without a kind; the tokenizers library would read it
    without the n-grams."""
    model, split = description.get("model"), description.get("pre_tokenizer")
    return (
        isinstance(model, dict)
        and isinstance(split, dict)
        and model.get("type") == "WordLevel"
        and split.get("pattern") == {"Regex": WORD_PATTERN.pattern}
    )


register_tokenizer(KIND, WordTokenizer.from_json)
