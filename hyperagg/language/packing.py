"""Packing of documents into rows of equal length, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["PackedDataset", "pack"]


class PackedDataset(Dataset[dict[str, Tensor]]):
    """Hold rows of N tokens, as a data set of `input_ids`, `labels` and `position_ids`.

    Args:
        input_ids: (R, N) token ids.
        position_ids: (R, N) position of each token in the part of its document that the row holds.
    """

    def __init__(self, input_ids: np.ndarray, position_ids: np.ndarray) -> None:
        self.input_ids = input_ids
        self.position_ids = position_ids

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        input_ids = torch.from_numpy(self.input_ids[index].astype(np.int64))
        position_ids = torch.from_numpy(self.position_ids[index].astype(np.int64))
        return {"input_ids": input_ids, "labels": input_ids, "position_ids": position_ids}


def pack(
    documents: Sequence[Sequence[int]], eos_token_id: int, sequence_length: int
) -> PackedDataset:
    """Concatenate documents and cut them into rows of equal length.

    The stream is (eos, document, eos, document, ..., eos). Every document begins with the token
    that separates documents, which predicts its first token, and the next separator is the target
    of its last token. Every target therefore belongs to the document that predicts it. The tokens
    after the last full row are dropped.

    Args:
        documents: the token ids of each document.
        eos_token_id: the token between documents.
        sequence_length: N, the number of tokens per row, an integer >= 1.

    Returns:
        A `PackedDataset`.

    Raises:
        ValueError: if the documents have fewer than N tokens.

    Cost: O(number of tokens).

    Example:
        >>> dataset = pack([[5, 6], [7]], eos_token_id=0, sequence_length=3)
        >>> dataset.input_ids.tolist(), dataset.position_ids.tolist()
        ([[0, 5, 6], [0, 7, 0]], [[0, 1, 2], [0, 1, 0]])
    """
    stream = np.full(sum(map(len, documents)) + len(documents) + 1, eos_token_id, dtype=np.int32)
    starts = np.cumsum([0, *(len(document) + 1 for document in documents)])
    for start, document in zip(starts, documents):
        stream[start + 1 : start + 1 + len(document)] = document
    num_rows = len(stream) // sequence_length
    if num_rows == 0:
        raise ValueError(
            f"sequence_length={sequence_length:,}: expected at most {len(stream):,}, the number of "
            "tokens in all texts; pass more text or a shorter sequence length"
        )
    num_tokens = num_rows * sequence_length
    last_start = np.zeros(num_tokens, dtype=np.int64)
    row_starts = np.arange(num_rows) * sequence_length
    all_starts = np.union1d(starts, row_starts)
    all_starts = all_starts[all_starts < num_tokens]
    last_start[all_starts] = all_starts
    position_ids = np.arange(num_tokens) - np.maximum.accumulate(last_start)
    return PackedDataset(
        stream[:num_tokens].reshape(num_rows, sequence_length),
        position_ids.astype(np.int32).reshape(num_rows, sequence_length),
    )
