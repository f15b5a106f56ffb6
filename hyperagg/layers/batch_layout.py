"""The layout of the sequences in a batch: padded, packed or neither."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
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
        lengths: (B,) int32 or int64, the number of tokens per row; the rest of a row is padding.
        padding: the side on which the padding lies, "right" (default) or "left".
        documents: the causal mask of documents that are packed end to end in the flattened batch.
            Every row of the batch starts with a new document. Not together with `lengths`.
        process_group: the ranks over which rows are cut: the batch of each rank holds the N tokens
            of every row that follow those of the rank before, with the same N on all ranks. Not
            together with `lengths` or `documents`.

    Attributes:
        position_ids: what `find_position_ids` returns, if it is known already; otherwise None.

    Raises:
        TypeError: `lengths` is not an integer tensor, `documents` is not a `Documents`, or
            `process_group` is not a `ProcessGroup`.
        ValueError: `padding` is unknown, `documents` is not causal, or more than one of `lengths`,
            `documents` and `process_group` are given.

    Example:
        >>> Layout.from_attention_mask(torch.tensor([[0, 1, 1], [1, 1, 1]])).padding
        'left'
        >>> Layout.from_position_ids(torch.tensor([[0, 1, 0], [0, 1, 2]])).documents
        Documents(cu_seqlens=(0, 2, 3, 6), causal=True)
    """

    lengths: Tensor | None = None
    padding: Padding = "right"
    documents: Documents | None = None
    process_group: dist.ProcessGroup | None = None
    position_ids: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        lengths, documents = self.lengths, self.documents
        if lengths is not None:
            _check_integers("lengths", lengths, "(B,)", 1)
        if self.padding not in ("right", "left"):
            raise ValueError(f"padding={self.padding!r}: expected one of right, left")
        if self.process_group is not None:
            _check_process_group(self.process_group)
            if lengths is not None or documents is not None:
                raise ValueError(
                    "process_group: expected neither lengths nor documents with it; rows that are "
                    "cut over ranks hold one sequence each, without padding"
                )
        if documents is None:
            return
        if not isinstance(documents, Documents):
            raise TypeError(f"documents: {type(documents).__name__}; expected a Documents or None")
        if not documents.causal:
            raise ValueError(f"documents={documents}: expected causal=True")
        if lengths is not None:
            raise ValueError("lengths: expected None with documents, which have their own lengths")

    def find_position_ids(self, batch: int, n: int) -> Int[Tensor, "B N"] | None:
        """Return the number of tokens of the same sequence before each token in this batch.

        Args:
            batch: B, the number of rows of the batch.
            n: N, the number of tokens per row.

        Returns:
            (B, N) int64; None without padding and documents, where every row counts from 0.

        Raises:
            ValueError: if the layout does not fit a batch of this shape.

        Cost: O(B N), unless a class method made the layout.
        """
        if self.position_ids is not None:
            if tuple(self.position_ids.shape) != (batch, n):
                shape = tuple(self.position_ids.shape)
                raise ValueError(f"layout: of a batch of shape {shape}; expected {(batch, n)}")
            return self.position_ids
        if self.documents is not None:
            return _position_ids_of_documents(self.documents, batch, n)
        if self.lengths is None:
            return None
        if self.lengths.shape[0] != batch:
            raise ValueError(f"layout: {self.lengths.shape[0]} lengths; expected B = {batch}")
        ids = torch.arange(n, device=self.lengths.device).expand(batch, n)
        return ids if self.padding == "right" else (ids - (n - self.lengths[:, None])).clamp(min=0)

    @classmethod
    def from_attention_mask(cls, attention_mask: Tensor) -> Layout:
        """Return the layout of a padded batch.

        Args:
            attention_mask: (B, N), nonzero for tokens and zero for padding.

        Raises:
            TypeError: if it is not a tensor.
            ValueError: if it is not two-dimensional, or if rows are padded on different sides, or
                between their tokens.
        """
        _check_integers("attention_mask", attention_mask, "(B, N)", 2, any_type=True)
        mask = attention_mask.bool()
        lengths = mask.sum(1)
        position = torch.arange(mask.shape[1], device=mask.device)
        sides: tuple[tuple[Padding, Tensor], ...] = (
            ("left", position >= mask.shape[1] - lengths[:, None]),
            ("right", position < lengths[:, None]),
        )
        for padding, expected in sides:
            if torch.equal(mask, expected):
                return cls(lengths, padding)._with(position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        raise ValueError(
            "attention_mask: zeros lie between the tokens of a row, or on different sides of "
            "different rows; expected all rows to be padded on the left, or all on the right"
        )

    @classmethod
    def from_position_ids(cls, position_ids: Tensor) -> Layout:
        """Return the layout of packed documents.

        Args:
            position_ids: (B, N), increasing by 1 within a document and starting at 0 with each
                new document of a row. A row may begin in the middle of a document.

        Raises:
            TypeError: if they are not a tensor of integers.
            ValueError: if they are not two-dimensional, or neither increase by 1 nor start at 0.
                Under torch.compile, where their values are unknown, the latter is not checked.
        """
        _check_integers("position_ids", position_ids, "(B, N)", 2)
        starts = position_ids.diff(dim=1, prepend=position_ids[:, :1] - 2) != 1
        n = position_ids.numel()
        if torch.compiler.is_compiling():
            # The number of documents must not depend on values: empty ones follow the others.
            token = torch.arange(n, device=position_ids.device)
            begins = torch.where(starts.flatten(), token, n).sort().values
        else:
            if (position_ids[:, 1:][starts[:, 1:]] != 0).any():
                raise ValueError(
                    "position_ids: expected ids that increase by 1, or start at 0 with a new "
                    "document"
                )
            begins = starts.flatten().nonzero().flatten()
        cu_seqlens = torch.cat([begins, begins.new_full((1,), n)])
        first = position_ids[:, :1] * (starts.cumsum(1) == 1)
        return cls(documents=Documents(cu_seqlens))._with(position_ids=position_ids - first)

    def _with(self, position_ids: Tensor) -> Layout:
        object.__setattr__(self, "position_ids", position_ids)
        return self


def _check_integers(name: str, value: Any, shape: str, ndim: int, any_type: bool = False) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {type(value).__name__}; expected a tensor of shape {shape}")
    if not any_type and value.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name}: {value.dtype}; expected int32 or int64")
    if value.ndim != ndim:
        raise ValueError(f"{name}: shape {tuple(value.shape)}; expected {shape}")


def _check_process_group(group: Any) -> None:
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"process_group: {type(group).__name__}; expected a torch.distributed.ProcessGroup, "
            "one that this process belongs to"
        )


def _position_ids_of_documents(documents: Documents, batch: int, n: int) -> Tensor:
    boundaries = documents.boundaries
    if boundaries is not None:
        if boundaries[-1] != batch * n:
            raise ValueError(
                f"layout: {documents} for a batch of shape {(batch, n)}; expected documents of "
                f"B N = {batch * n} tokens"
            )
        known = set(boundaries)
        if n and any(row * n not in known for row in range(batch)):
            raise ValueError(
                f"layout: {documents} for a batch of shape {(batch, n)}; expected a new document "
                "at the start of every row"
            )
    token = torch.arange(batch * n, device=documents.cu_seqlens.device)
    # The last of equal boundaries: the others are of empty documents.
    document = torch.searchsorted(documents.cu_seqlens, token, right=True) - 1
    return (token - documents.cu_seqlens[document]).view(batch, n)
