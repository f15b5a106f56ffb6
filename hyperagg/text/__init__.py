"""Text to token ids: words and grams, their vocabulary, and ragged rows of ids."""

from hyperagg.text.ragged import Ragged
from hyperagg.text.term_frequency import occurrence_weights
from hyperagg.text.tokenizers import (
    UNKNOWN,
    WORDS,
    Alignment,
    HubTokenizer,
    Tokenizer,
    WordTokenizer,
    is_ngram,
    read_tokenizer,
    settled,
)

__all__ = [
    "UNKNOWN",
    "WORDS",
    "Alignment",
    "HubTokenizer",
    "Ragged",
    "Tokenizer",
    "WordTokenizer",
    "is_ngram",
    "occurrence_weights",
    "read_tokenizer",
    "settled",
]
