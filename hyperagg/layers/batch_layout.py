"""Where the sequences of a batch stand, however they were handed over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hyperagg.ops import Documents, Padding

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Which tokens of a (B, N) batch belong together; by default B sequences of N tokens.

    Args:
        lengths: (B,) tokens of each row; the rest of it is padding.
        padding: the side on which that stands.
        documents: the mask of sequences packed end to end in the flattened batch (1, B N).
        places: (B, N) int64, how many tokens of its own sequence stand before each token in this
            batch; goes with `lengths` and with `documents`.
    """

    lengths: Tensor | None = None
    padding: Padding = "right"
    documents: Documents | None = None
    places: Tensor | None = None

    @classmethod
    def padded(cls, attention_mask: Int[Tensor, "B N"]) -> Layout:
        """From attention_mask (B, N), nonzero where a token is no padding.

        Raises:
            ValueError: padding on different sides, or between the tokens of a row.
        """
        kept = attention_mask.bool()
        lengths = kept.sum(1)
        place = torch.arange(kept.shape[1], device=kept.device)
        sides: tuple[tuple[Padding, Tensor], ...] = (
            ("left", place >= kept.shape[1] - lengths[:, None]),
            ("right", place < lengths[:, None]),
        )
        for padding, expected in sides:
            if torch.equal(kept, expected):
                return cls(lengths, padding, places=(kept.cumsum(1) - 1).clamp(min=0))
        raise ValueError(
            "attention_mask: zeros stand between the tokens of a row, or on different sides of "
            "different rows; pad all rows on the left, or all on the right"
        )

    @classmethod
    def packed(cls, position_ids: Int[Tensor, "B N"]) -> Layout:
        """From position_ids (B, N) that start again at 0 with every document of a row.

        Raises:
            ValueError: they neither go up by one nor start again.
        """
        starts = torch.ones_like(position_ids, dtype=torch.bool)
        starts[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
        if (position_ids[:, 1:][starts[:, 1:]] != 0).any():
            raise ValueError(
                "position_ids: they have to go up by 1, or start again at 0 with a document"
            )
        cu_seqlens = nn.functional.pad(
            starts.flatten().nonzero().flatten(), (0, 1), value=position_ids.numel()
        )
        # A row may begin in the middle of a document, whose positions then begin above 0.
        places = position_ids - position_ids[:, :1] * (starts.cumsum(1) == 1)
        return cls(documents=Documents(cu_seqlens), places=places)
