"""Documents end to end in rows of one length: no place of a batch is wasted on padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["PackedRows", "pack"]


class PackedRows(Dataset[dict[str, Tensor]]):
    """Rows of N tokens: input_ids, labels, and position_ids that start anew with a document.

    Args:
        token_ids: (R, N).
        position_ids: (R, N), of a token in its document as far as the row holds it.
    """

    def __init__(self, token_ids: np.ndarray, position_ids: np.ndarray) -> None:
        self.token_ids = token_ids
        self.position_ids = position_ids

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.from_numpy(self.token_ids[index].astype(np.int64))
        places = torch.from_numpy(self.position_ids[index].astype(np.int64))
        return {"input_ids": ids, "labels": ids, "position_ids": places}


def pack(documents: Sequence[Sequence[int]], end: int, length: int) -> PackedRows:
    """(end, document, end, document, ..., end) cut into rows.

    Every document begins with the token `end`, from which its first word is predicted, and the one
    that follows it is what its last word has to predict; so all targets are real and none is seen
    from another document. What is left over after the last whole row is dropped.

    Args:
        documents: token ids of each.
        end: the token that stands between them.
        length: N, of a row.

    Raises:
        ValueError: there are fewer than N tokens.
    """
    stream = np.full(sum(map(len, documents)) + len(documents) + 1, end, dtype=np.int32)
    starts = np.cumsum([0, *(len(document) + 1 for document in documents)])
    for start, document in zip(starts, documents):
        stream[start + 1 : start + 1 + len(document)] = document
    rows = len(stream) // length
    if rows == 0:
        raise ValueError(
            f"the texts are {len(stream):,} tokens in all, less than one sequence of {length:,}; "
            "give more text or shorter sequences"
        )
    place = np.arange(rows * length)
    begun = np.zeros(rows * length, dtype=np.int64)
    borders = np.union1d(starts, np.arange(rows) * length)
    borders = borders[borders < rows * length]
    begun[borders] = borders
    positions = place - np.maximum.accumulate(begun)
    return PackedRows(
        stream[: rows * length].reshape(rows, length),
        positions.astype(np.int32).reshape(rows, length),
    )
