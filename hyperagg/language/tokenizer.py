"""Training and loading of the tokenizer of a language model: byte pairs, or words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hyperagg.language.saved_folder import check_tokenizer_folder
from hyperagg.text.tokenizer_errors import raise_as_tokenizer_error

__all__ = ["END_OF_TEXT", "TOKENIZER_TYPES", "encode", "load_tokenizer", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"
TOKENIZER_TYPES = ("bpe", "words")


def train_tokenizer(
    texts: Iterable[str], tokenizer_type: str = "bpe", vocab_size: int = 8192
) -> PreTrainedTokenizerFast:
    """Train a tokenizer on texts.

    Args:
        texts: the texts.
        tokenizer_type: "bpe" (default) merges pairs of bytes and can encode any text. "words"
            keeps the most frequent words and punctuation marks in lower case, and maps all others
            to <unk>.
        vocab_size: maximum number of tokens (default: 8192). One of them, `END_OF_TEXT`, begins
            and ends every document and is the padding token.

    Returns:
        A tokenizer that pads on the left, as generation requires.

    Raises:
        ValueError: if the type is unknown, or if "bpe" has fewer tokens than there are bytes.

    Source: byte-level BPE, Radford et al. 2019, "Language models are unsupervised multitask
        learners".

    Example:
        >>> tokenizer = train_tokenizer(["oil rose", "oil fell"], "words", vocab_size=10)
        >>> tokenizer.tokenize("Oil sank")
        ['oil', '<unk>']
    """
    if tokenizer_type not in TOKENIZER_TYPES:
        raise ValueError(
            f"tokenizer={tokenizer_type!r}: expected one of {', '.join(TOKENIZER_TYPES)}, or the "
            "folder of a model"
        )
    if tokenizer_type == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if vocab_size <= len(alphabet):
            raise ValueError(
                f"vocab_size={vocab_size}: expected an integer > {len(alphabet)}, the number of "
                "bytes, for the tokenizer 'bpe'"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: trainers.Trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=alphabet,
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(
            Regex(rf"{UNKNOWN}|\w+|[^\w\s]"), "removed", invert=True
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size, special_tokens=[END_OF_TEXT, UNKNOWN], show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=UNKNOWN if tokenizer_type == "words" else None,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: Any
) -> BatchEncoding:
    """Encode texts without special tokens.

    Args:
        tokenizer: the tokenizer.
        texts: the texts.
        options: further arguments of the tokenizer, such as `padding`.

    Raises:
        ValueError: if the tokenizer fails, for example because a regular expression takes too long.

    Example:
        >>> encode(train_tokenizer(["oil rose"], "words", 10), ["rose oil"])["input_ids"]
        [[3, 2]]
    """
    with raise_as_tokenizer_error():
        return tokenizer(list(texts), add_special_tokens=False, **options)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a saved model.

    Args:
        folder: a folder with tokenizer.json.

    Raises:
        ValueError: if the tokenizer is missing or damaged, or has no token for the end of a text.
    """
    if not (folder / "tokenizer.json").exists():
        raise ValueError(f"{folder}: tokenizer.json not found; expected the folder of a model")
    check_tokenizer_folder(folder)
    with raise_as_tokenizer_error(f"{folder}: tokenizer.json cannot be read"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: the tokenizer has no eos_token, which must end a document")
    if tokenizer.pad_token_id is None:  # the attention mask tells padding from the end of a text
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
