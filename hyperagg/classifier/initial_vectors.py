"""The initial values of the embedding: vectors of a file, or learned from texts without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hyperagg._common.checkpoint import digest_arrays
from hyperagg._common.progress import progress_bar
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.interop.fasttext import read_vectors
from hyperagg.classifier.predictor import encode
from hyperagg.classifier.training.pretraining import pretrain_vectors
from hyperagg.classifier.training.run_options import RunOptions
from hyperagg.text import Tokenizer, WordTokenizer, ngram_mask

__all__ = ["InitialVectors", "learn_initial_vectors", "read_initial_vectors"]

# The more labels there are, the more of the vectors they determine: with few the initial vectors
# are long, so that a step changes them little. docs/log.md has the grid.
_TEXTS_OF_EQUAL_SCALE, _MAX_SCALE = 3_000, 4.0


class InitialVectors(NamedTuple):
    """Vectors of tokens; those of all others start at random.

    Attributes:
        ids: (K,) the tokens.
        values: (K, D) their vectors.
        scale: the standard deviation of the values at the start, relative to that of random ones.
    """

    ids: np.ndarray
    values: np.ndarray
    scale: float = 1.0

    def digest(self) -> str:
        """Identify the vectors."""
        return digest_arrays(self[:2])

    def write_to(self, embedding: np.ndarray) -> None:
        """Replace rows of an embedding (V, D) of random values."""
        factor = self.scale * embedding.std() / self.values.std()
        embedding[self.ids] = self.values * np.float32(factor)


def read_initial_vectors(
    file: str | Path, tokenizer: Tokenizer, config: ClassifierConfig
) -> InitialVectors:
    """Return the vectors that a file of word vectors has for the words of a tokenizer.

    Raises:
        ValueError: the file cannot be read, its vectors have another dimension than d_model, or it
            has fewer than two of the words.
    """
    words, table = read_vectors(file)
    if table.shape[1] != config.d_model:
        raise ValueError(
            f"{file}: the vectors have dimension {table.shape[1]}, but "
            f"d_model={config.d_model}; pass d_model={table.shape[1]}"
        )
    vocabulary = tokenizer.vocabulary
    ids = {vocabulary[i]: i for i in np.flatnonzero(~ngram_mask(tokenizer)).tolist()}
    known = [row for row, word in enumerate(words) if word in ids]
    if len(known) < 2:
        raise ValueError(
            f"{file}: has none of the words of the texts, which are compared in lower case"
        )
    return InitialVectors(np.array([ids[words[row]] for row in known]), table[known])


def learn_initial_vectors(
    texts: Sequence[str],
    unlabelled: Sequence[str],
    tokenizer: Tokenizer,
    config: ClassifierConfig,
    options: RunOptions,
) -> tuple[Tokenizer, InitialVectors]:
    """Learn vectors from all texts; see `training.pretraining`.

    Args:
        texts: the texts that have labels.
        unlabelled: those that have none.
        tokenizer: that of all texts.
        config: the arguments of the classifier.
        options: the seed, the threads and whether to show a progress bar.

    Returns:
        The tokenizer, without the entries that only `unlabelled` has and that have no vector; and
        the vectors of its tokens.

    Raises:
        ValueError: the texts have too little in common to learn from.
    """
    rows = encode(tokenizer, [*texts, *unlabelled], config.max_tokens)
    with progress_bar("learning from texts without labels", options.progress) as update:
        ids, vectors = pretrain_vectors(
            rows,
            len(tokenizer),
            config.d_model,
            options.seed,
            lambda fraction: update(fraction, f"{len(rows):,} texts"),
        )
    if isinstance(tokenizer, WordTokenizer):
        labeled_tokens = rows.token_ids[: rows.cu_seqlens[len(texts)]]
        kept = np.unique(np.concatenate([[0], labeled_tokens, ids]))
        tokenizer, ids = tokenizer.subset(kept.tolist()), np.searchsorted(kept, ids)
    scale = min(_MAX_SCALE, max(1.0, (_TEXTS_OF_EQUAL_SCALE / len(texts)) ** 0.5))
    return tokenizer, InitialVectors(ids, vectors, scale)
