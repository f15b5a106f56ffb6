"""A tokenizer of a corpus's own: byte pairs, or words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["END", "KINDS", "load_tokenizer", "train_tokenizer"]

END = "<|endoftext|>"
UNKNOWN = "<unk>"
KINDS = ("bpe", "words")


def train_tokenizer(
    texts: Iterable[str], kind: str = "bpe", vocab_size: int = 8192
) -> PreTrainedTokenizerFast:
    """Learn a tokenizer.

    Args:
        texts: what it is for.
        kind: "bpe" merges bytes and can write any text; "words" knows the most frequent words and
            signs in lower case, and calls the others <unk>.
        vocab_size: V at most. One of them, `END`, begins and ends every document and pads.

    Raises:
        ValueError: an unknown kind, or a vocab_size that does not even hold the bytes.
    """
    if kind not in KINDS:
        raise ValueError(f"tokenizer={kind!r}: there are {', '.join(KINDS)}, or name a folder")
    if kind == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if vocab_size <= len(alphabet):
            raise ValueError(
                f"vocab_size={vocab_size}: bytes alone are {len(alphabet)}; give more, or words"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: trainers.Trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
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
            vocab_size=vocab_size, special_tokens=[END, UNKNOWN], show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN if kind == "words" else None,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a saved model.

    Raises:
        ValueError: it is absent or damaged, or names no token for the end of a text.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder}: there is no tokenizer.json in it; name a model's folder")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    # The tokenizers library raises plain Exceptions.
    except Exception as error:
        raise ValueError(
            f"{folder}: its tokenizer cannot be read ({error}); copy the folder again"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: its tokenizer names no eos_token, which ends a document")
    return tokenizer
