"""Converts texts to token ids: words and n-grams, their vocabulary, and ragged rows of ids."""

from hyperagg.text.ragged import Ragged
from hyperagg.text.term_frequency import occurrence_weights
from hyperagg.text.tokenizers import (
    UNKNOWN,
    WORD_PATTERN,
    Alignment,
    HubTokenizer,
    Tokenizer,
    WordTokenizer,
    is_ngram,
    read_tokenizer,
    register_tokenizer,
    stable_length,
)

__all__ = [
    "UNKNOWN",
    "WORD_PATTERN",
    "Alignment",
    "HubTokenizer",
    "Ragged",
    "Tokenizer",
    "WordTokenizer",
    "is_ngram",
    "occurrence_weights",
    "read_tokenizer",
    "register_tokenizer",
    "stable_length",
]
