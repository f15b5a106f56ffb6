"""What cuts texts into tokens and gives them ids.

    words(text)  =  every match of  \\w+|[^\\w\\s]  in the lower-cased text

`scan` computes that; here is what is known of the words, and how it is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from hyperagg.text import scan
from hyperagg.text.hash_table import build_table, tally
from hyperagg.text.ragged import Ragged

__all__ = [
    "Alignment",
    "HubTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "is_ngram",
    "read_tokenizer",
    "settled",
]

UNKNOWN = "[UNK]"

WORDS = re.compile(r"\w+|[^\w\s]")
_NO_WORD, _SPACE_RUN = re.compile(r"\W+"), re.compile(r"\s+")


class Alignment(NamedTuple):
    """The words of a text, and whose each of its token ids is.

    Attributes:
        spans: first character and last + 1 of each word in the text.
        owners: (T, 2) the first and the last word that a token stands for.
    """

    spans: list[tuple[int, int]]
    owners: np.ndarray


class Tokenizer(Protocol):
    """What a model needs of a tokenizer."""

    @property
    def vocabulary(self) -> list[str]: ...

    def __len__(self) -> int:
        """How many ids there are."""
        ...

    def encode(self, texts: Sequence[str]) -> Ragged: ...

    def align(self, text: str) -> Alignment:
        """Which words the tokens of `encode([text])` stand for."""
        ...

    def to_json(self) -> str: ...


class WordTokenizer:
    """Lower-cased words and single punctuation marks; id 0 is [UNK], then by falling frequency.

    With grams a word is followed by those of its grams that the training texts had: the pair with
    the word before ("crude oil"), and of a word of more than five characters its beginning
    ("petro*") and ending ("*eum"), by which an unknown word is known a little.

    Args:
        vocabulary: the known words and grams; the first must be "[UNK]".

    Attributes:
        grams: (V,) bool, which entries are grams.
        table: their hashes, as `scan.look_up` takes them.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if not vocabulary or vocabulary[0] != UNKNOWN:
            raise ValueError(f"vocabulary: its first entry must be {UNKNOWN!r}")
        self.vocabulary = list(vocabulary)
        self.grams = np.fromiter(map(is_ngram, self.vocabulary), dtype=bool)
        self.has_ngrams = bool(self.grams.any())
        # [UNK] is no word a text can hold (the scan splits at brackets), so it needs no slot.
        self.table = build_table(scan.hash_vocabulary(self.vocabulary[1:]))

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        max_words: int = 200_000,
        min_count: int = 1,
        grams: int = 0,
    ) -> WordTokenizer:
        """The words of `texts` with at least `min_count` uses, the `max_words` most used of them,
        and after them as many as `grams` of the grams, chosen alike.

        Equal counts are ordered by first appearance, so the same texts give the same vocabulary.
        Cost: one scan of the bytes and one sort of the words.
        """
        words, found = _words_and_grams(texts, max_words, min_count, grams)
        return cls([UNKNOWN, *words, *found])

    def extended(
        self, texts: Sequence[str], max_words: int, min_count: int, grams: int
    ) -> WordTokenizer:
        """With what of the words and grams of `texts` is new, after the known ones, as far as there
        is room for it; arguments as of `train`."""
        found = _words_and_grams(texts, max_words, min_count, grams)
        known, known_grams = set(self.vocabulary), int(self.grams.sum())
        room = max_words - (len(known) - known_grams), grams - known_grams
        new = []
        for entries, most in zip(found, room):
            new += [entry for entry in entries if entry not in known][: max(0, most)]
        return WordTokenizer([*self.vocabulary, *new])

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Token ids of every text; unknown words are id 0. Cost: O(bytes)."""
        return Ragged(*scan.look_up(*scan.to_bytes(texts), self.table, self.has_ngrams))

    def encode_on(self, text: str, before: int) -> tuple[np.ndarray, int, int]:
        """Token ids of a text that goes on after the word of hash `before` (0: none), the number
        of its words, and the hash of the last of them."""
        token_ids, owners, last = self._look_up_on(text, before)
        return token_ids, int(owners.max(initial=-1)) + 1, last

    def align(self, text: str) -> Alignment:
        """Which words the tokens of `encode([text])` stand for.

        A character whose small letter is two (İ) may belong to two words.
        """
        # For each character of the lower-cased text the one that it comes from.
        lowered, source = text.lower(), np.arange(len(text))
        if len(lowered) != len(text):
            source = np.repeat(source, [len(character.lower()) for character in text])
        found = [match.span() for match in WORDS.finditer(lowered)]
        spans = [(int(source[begin]), int(source[end - 1]) + 1) for begin, end in found]
        return Alignment(spans, self._look_up_on(text)[1])

    def to_json(self) -> str:
        """The same tokenizer in the format of Hugging Face tokenizers (tokenizer.json), which
        knows its words; grams are entries that it never looks up."""
        from tokenizers import Regex, models, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        ids = {word: i for i, word in enumerate(self.vocabulary)}
        backend = Backend(models.WordLevel(ids, unk_token=UNKNOWN))
        backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.Split(
            Regex(WORDS.pattern), behavior="removed", invert=True
        )
        return backend.to_str()

    def _look_up_on(self, text: str, before: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
        return scan.look_up_on(*scan.to_bytes([text]), self.table, self.has_ngrams, before)


def is_ngram(entry: str) -> bool:
    """Whether an entry of a WordTokenizer's vocabulary is a gram and no word."""
    return len(entry) > 1 and (" " in entry or entry[0] == "*" or entry[-1] == "*")


def _words_and_grams(
    texts: Sequence[str], max_words: int, min_count: int, grams: int
) -> tuple[list[str], list[str]]:
    data, borders = scan.to_bytes(texts)
    hashes, starts, ends, found = scan.scan(data, borders, grams > 0)
    words = _most_used(hashes, max_words, min_count)
    picked = _most_used(found.reshape(-1), grams, min_count)
    return (
        scan.entry_texts(data, starts, ends, words, grams=False),
        scan.entry_texts(data, starts, ends, picked, grams=True),
    )


def _most_used(hashes: np.ndarray, most: int, min_count: int) -> np.ndarray:
    """Where the most used hashes come first, the most used of all in front."""
    counts, firsts = tally(hashes)
    if 0 < most < len(counts):
        # Of those that are used as often as the last one, the first ones are taken below.
        min_count = max(min_count, int(np.partition(counts, -most)[-most]))
    kept = counts >= min_count
    counts, firsts = counts[kept], firsts[kept]
    return firsts[np.lexsort((firsts, -counts))[:most]]


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

    def __len__(self) -> int:
        return max(self.backend.get_vocab().values()) + 1

    def encode(self, texts: Sequence[str]) -> Ragged:
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        cu_seqlens = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        token_ids = np.fromiter((i for row in rows for i in row), np.int32, count=cu_seqlens[-1])
        return Ragged(token_ids, cu_seqlens)

    def align(self, text: str) -> Alignment:
        """Which words the tokens of `encode([text])` stand for: each for itself."""
        spans = list(self.backend.encode(text, add_special_tokens=False).offsets)
        return Alignment(spans, np.arange(len(spans))[:, None].repeat(2, 1))

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
    description = json.loads(text)
    if "kind" in description:
        from hyperagg.classifier.interop.fasttext_tokenizer import FastTextTokenizer

        return FastTextTokenizer.from_json(text)
    split = (description.get("pre_tokenizer") or {}).get("pattern", {}).get("Regex")
    if description["model"]["type"] == "WordLevel" and split == WORDS.pattern:
        vocabulary = description["model"]["vocab"]
        words = list(vocabulary)
        ids = np.fromiter(vocabulary.values(), dtype=np.int64, count=len(words))
        if (np.diff(ids) < 0).any():
            words = [words[i] for i in ids.argsort(kind="stable")]
        return WordTokenizer(words)
    from tokenizers import Tokenizer as Backend

    return HubTokenizer(Backend.from_str(text))
