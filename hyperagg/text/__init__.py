"""Text to token ids: words and grams, their vocabulary, and ragged rows of ids."""

from hyperagg.text.ragged import Ragged
from hyperagg.text.tokenizers import (
    UNKNOWN,
    WORDS,
    Alignment,
    HubTokenizer,
    Tokenizer,
    WordTokenizer,
    is_gram,
    read_tokenizer,
    settled,
)
from hyperagg.text.uses import use_weights

__all__ = [
    "UNKNOWN",
    "WORDS",
    "Alignment",
    "HubTokenizer",
    "Ragged",
    "Tokenizer",
    "WordTokenizer",
    "is_gram",
    "read_tokenizer",
    "settled",
    "use_weights",
]
