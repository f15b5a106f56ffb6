"""The layout of the sequences in a batch: padded, packed or neither."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hyperagg.ops import Documents, Padding

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Describe which tokens of a (B, N) batch belong to the same sequence.

    By default, a batch holds B sequences of N tokens. A model builds one layout per forward pass
    and all of its layers use it, so that offsets are checked and copied to the device once.

    Args:
        lengths: (B,) number of tokens per row; the rest of a row is padding.
        padding: the side on which the padding lies, "right" (default) or "left".
        documents: the mask of documents that are packed end to end in the flattened batch.
        position_ids: (B, N) int64, the number of tokens of the same sequence that precede each
            token in this batch; present with `lengths` and with `documents`.

    Example:
        >>> Layout.from_attention_mask(torch.tensor([[0, 1, 1], [1, 1, 1]])).padding
        'left'
        >>> Layout.from_position_ids(torch.tensor([[0, 1, 0], [0, 1, 2]])).documents
        Documents(cu_seqlens=(0, 2, 3, 6), causal=True)
    """

    lengths: Tensor | None = None
    padding: Padding = "right"
    documents: Documents | None = None
    position_ids: Tensor | None = None

    @classmethod
    def from_attention_mask(cls, attention_mask: Int[Tensor, "B N"]) -> Layout:
        """Return the layout of a padded batch.

        Args:
            attention_mask: (B, N), nonzero for tokens and zero for padding.

        Raises:
            ValueError: if rows are padded on different sides, or between their tokens.
        """
        mask = attention_mask.bool()
        lengths = mask.sum(1)
        position = torch.arange(mask.shape[1], device=mask.device)
        sides: tuple[tuple[Padding, Tensor], ...] = (
            ("left", position >= mask.shape[1] - lengths[:, None]),
            ("right", position < lengths[:, None]),
        )
        for padding, expected in sides:
            if torch.equal(mask, expected):
                return cls(lengths, padding, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        raise ValueError(
            "attention_mask: zeros lie between the tokens of a row, or on different sides of "
            "different rows; expected all rows to be padded on the left, or all on the right"
        )

    @classmethod
    def from_position_ids(cls, position_ids: Int[Tensor, "B N"]) -> Layout:
        """Return the layout of packed documents.

        Args:
            position_ids: (B, N), increasing by 1 within a document and starting at 0 with each
                new document of a row. A row may begin in the middle of a document.

        Raises:
            ValueError: if the ids neither increase by 1 nor start at 0.
        """
        starts = torch.ones_like(position_ids, dtype=torch.bool)
        starts[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
        if (position_ids[:, 1:][starts[:, 1:]] != 0).any():
            raise ValueError(
                "position_ids: expected ids that increase by 1, or start at 0 with a new document"
            )
        begins = starts.flatten().nonzero().flatten()
        cu_seqlens = torch.cat([begins, begins.new_full((1,), position_ids.numel())])
        first = position_ids[:, :1] * (starts.cumsum(1) == 1)
        return cls(documents=Documents(cu_seqlens), position_ids=position_ids - first)
