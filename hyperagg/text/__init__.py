"""Converts texts to token ids: words and n-grams, their vocabulary, and ragged rows of ids."""

from hyperagg.text.normalization import stable_length
from hyperagg.text.ragged import Ragged
from hyperagg.text.term_frequency import occurrence_weights, token_counts
from hyperagg.text.tokenizers import (
    UNKNOWN,
    WORD_PATTERN,
    Alignment,
    FeatureChoice,
    Features,
    HubTokenizer,
    Tokenizer,
    WordTokenizer,
    ngram_mask,
    read_tokenizer,
    register_tokenizer,
)

__all__ = [
    "UNKNOWN",
    "WORD_PATTERN",
    "Alignment",
    "FeatureChoice",
    "Features",
    "HubTokenizer",
    "Ragged",
    "Tokenizer",
    "WordTokenizer",
    "ngram_mask",
    "occurrence_weights",
    "read_tokenizer",
    "register_tokenizer",
    "stable_length",
    "token_counts",
]
