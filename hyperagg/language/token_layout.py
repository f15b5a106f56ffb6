"""Where the tokens of each sequence are in a batch: padding, gaps, packed documents."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from transformers.utils.import_utils import is_tracing

from hyperagg.layers import Layout

__all__ = ["TokenLayout", "find_cu_seqlens", "find_position_ids", "make_token_layout"]


class TokenLayout(NamedTuple):
    """Hold where a mixer finds the tokens of a (B, N) batch.

    Where padding lies on one side only, a mixer takes the batch as it is. Otherwise the tokens of
    each row are gathered to its end, so that the latest are the last, or to its start if there are
    packed documents.

    Args:
        layout: the sequences, after `gather`.
        order: (B, N) the column of each gathered token; None if nothing has to be gathered.
        position_ids: (B, N) the position of each gathered token in its document; None without
            packed documents.
        is_token: (B, N) whether each column of the batch holds a token; None if all do.
    """

    layout: Layout
    order: Tensor | None = None
    position_ids: Tensor | None = None
    is_token: Tensor | None = None

    @property
    def is_packed(self) -> bool:
        """Whether rows hold several documents."""
        return self.position_ids is not None

    def gather(self, x: Tensor) -> Tensor:
        """Return x (B, N, D) with the tokens of each row side by side."""
        return x if self.order is None else _take(x, self.order)

    def scatter(self, x: Tensor) -> Tensor:
        """Return gathered x (B, N, D) in the columns of the batch."""
        return x if self.order is None else _take(x, self.order.argsort(1))

    def find_latest(self) -> Tensor | None:
        """Return which of the last columns hold a token, (M,) on the CPU; None if all N do.

        M is the length of the longest end of the batch in whose columns all rows hold a token or
        none does.
        """
        if self.is_token is None:
            return None
        is_token = self.is_token.cpu()
        agree = (is_token == is_token[:1]).all(0)
        num_latest = int(agree.flip(0).long().cumprod(0).sum())
        return is_token[0, is_token.shape[1] - num_latest :]


_NO_PADDING = TokenLayout(Layout())


def make_token_layout(
    x: Tensor,
    attention_mask: Tensor | None,
    *,
    position_ids: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    past_length: int = 0,
    has_cache: bool = False,
    process_group: dist.ProcessGroup | None = None,
) -> TokenLayout:
    """Return the layout of the tokens x.

    Under torch.compile and torch.export, where values are unknown, tokens are gathered wherever
    there is a mask, and rows may hold several documents wherever there are position ids and no
    cache.

    Args:
        x: (B, N, D).
        attention_mask: (B, N) or (B, S + N) after S cached positions, nonzero for tokens and zero
            for padding, in any place. None: every position holds a token.
        position_ids: (B, N) or (1, N). A token whose position is 0 begins a document.
        seq_idx: (B, N) or (1, N), the number of the document of each token.
        cu_seqlens: cumulative lengths (0, ..., B N) of the documents of the flattened batch.
        past_length: S.
        has_cache: whether a state is kept, or continued from.
        process_group: the ranks over which rows are cut, see `hyperagg.layers.Layout`.

    Raises:
        TypeError: if an index tensor is not of integers.
        ValueError: if a shape does not fit, if positions neither increase by 1 nor start at 0, if
            there are several documents in a row of a batch with a cache, or if rows that are cut
            over ranks have padding, documents or a cache.

    Cost: O(B N), besides O(B N D) for each call of `gather` and `scatter`.
    """
    if process_group is not None:
        given = (attention_mask, position_ids, seq_idx, cu_seqlens)
        if has_cache or any(each is not None for each in given):
            raise ValueError(
                "process_group: expected neither attention_mask, documents nor past_key_values "
                "with it; rows that are cut over ranks hold one document each, without padding"
            )
        return TokenLayout(Layout(process_group=process_group))
    if attention_mask is position_ids is seq_idx is cu_seqlens is None:  # a step of decoding
        return _NO_PADDING
    batch, n, _ = x.shape
    tracing = is_tracing(x)
    if attention_mask is not None:
        _check_mask(attention_mask, batch, n, past_length, tracing)
    keep = None if attention_mask is None else attention_mask[:, -n:].bool() if n else None
    if keep is not None and not tracing and keep.all():
        keep = None
    order = None if keep is None else (~keep).to(torch.int8).argsort(dim=1, stable=True)
    starts = None
    if not (tracing and has_cache):
        starts = _find_starts(x, order, keep, position_ids, seq_idx, cu_seqlens, tracing)
    if has_cache and not tracing:
        _check_continues(starts, attention_mask, position_ids, n, past_length)
    if starts is not None:
        column = torch.arange(n, device=x.device).expand(batch, n)
        first = torch.where(starts, column, 0).cummax(1).values
        layout = Layout.from_position_ids(column - first)
        return TokenLayout(layout, order, column - first, keep)
    if keep is None:
        return _NO_PADDING
    if not tracing:
        before, after = keep[:, :-1], keep[:, 1:]
        if (before <= after).all() or (before >= after).all():
            return TokenLayout(Layout.from_attention_mask(keep), is_token=keep)
    order = keep.to(torch.int8).argsort(dim=1, stable=True)
    return TokenLayout(Layout(keep.sum(1), "left"), order, is_token=keep)


def find_cu_seqlens(kwargs: dict[str, Any]) -> Tensor | None:
    """Return the cumulative lengths of the documents, the same for queries and keys, or None."""
    queries = kwargs.get("cu_seq_lens_q")
    return kwargs.get("cu_seq_lens_k") if queries is None else queries


def find_position_ids(attention_mask: Tensor | None, x: Tensor, past_length: int) -> Tensor:
    """Return the number of tokens before each of the tokens x (B, N, D), (B, N) or (1, N)."""
    n = x.shape[1]
    if attention_mask is None:
        return torch.arange(n, device=x.device)[None] + past_length
    return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -n:]


def _find_starts(
    x: Tensor,
    order: Tensor | None,
    keep: Tensor | None,
    position_ids: Tensor | None,
    seq_idx: Tensor | None,
    cu_seqlens: Tensor | None,
    tracing: bool,
) -> Tensor | None:
    """Whether a document starts at each gathered token, (B, N); None if none starts in a row."""
    if position_ids is None and seq_idx is None and cu_seqlens is None:
        return None
    batch, n, _ = x.shape
    if n == 1 and cu_seqlens is None and not tracing:  # a step of decoding, which is frequent
        for name, ids in (("position_ids", position_ids), ("seq_idx", seq_idx)):
            if ids is not None:
                _expanded(name, ids, batch, n)  # checks the shape
        return None
    column = torch.arange(n, device=x.device).expand(batch, n)
    index = column if order is None else order
    lengths = n if keep is None else keep.sum(1, keepdim=True)
    starts = column == 0
    if position_ids is not None:
        positions = _expanded("position_ids", position_ids, batch, n).gather(1, index)
        step, gap = _steps(positions), _steps(index)
        # Positions may count the padding between two tokens, or not.
        jumps = (step != 1) & (step != gap) & (column < lengths)
        restarts = jumps & (positions == 0)
        # Behind padding on the right, `generate` counts on from the position of the padding.
        if not tracing and (jumps & ~restarts & (gap == 1)).any():
            raise ValueError(
                "position_ids: expected ids that increase by 1, or start at 0 with a new document"
            )
        starts = starts | restarts
    if seq_idx is not None:
        starts = starts | (_steps(_expanded("seq_idx", seq_idx, batch, n).gather(1, index)) != 0)
    if cu_seqlens is not None:
        _check_cu_seqlens(cu_seqlens, batch, n, tracing)
        token = torch.arange(batch * n, device=x.device)
        document = torch.searchsorted(cu_seqlens.to(x.device).long(), token, right=True)
        starts = starts | (_steps(document.view(batch, n).gather(1, index)) != 0)
    if not tracing and not (starts & (column > 0) & (column < lengths)).any():
        return None
    # The padding at the end of a row is a document of its own.
    return starts | (column == lengths)


def _steps(index: Tensor) -> Tensor:
    """The difference of each column to the one before it, and 0 in the first; (B, N)."""
    return index.diff(dim=1, prepend=index[:, :1])


def _check_mask(
    attention_mask: Tensor, batch: int, n: int, past_length: int, tracing: bool
) -> None:
    shape = tuple(attention_mask.shape)
    if attention_mask.ndim == 2 and (
        tracing or (shape[0] == batch and shape[1] in (n, past_length + n))
    ):
        return
    expected = f"({batch}, {n})" + (f" or ({batch}, {past_length + n})" if past_length else "")
    raise ValueError(
        f"attention_mask: shape {shape}; expected {expected}, nonzero for tokens and zero for "
        "padding"
    )


def _check_continues(
    starts: Tensor | None,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    n: int,
    past_length: int,
) -> None:
    """Raise ValueError if a document begins that must not be mixed with the cached tokens."""
    if starts is not None:
        raise ValueError(
            "position_ids, seq_idx or cu_seq_lens_q: a row holds several documents; expected one "
            "document per row with past_key_values, or for a class per row"
        )
    if not past_length or position_ids is None or not n or position_ids.min() > 0:
        return
    follows = position_ids.new_ones((), dtype=torch.bool)
    positions = position_ids
    if attention_mask is not None:
        mask = attention_mask.bool()
        positions = position_ids.masked_fill(~mask[:, -n:], 1)
        if mask.shape[1] > n:
            follows = mask[:, :-n].any(1, keepdim=True)
    if ((positions == 0) & follows).any():
        raise ValueError(
            f"position_ids: 0 after {past_length} cached tokens; expected ids that continue from "
            "the cache; start a new document with past_key_values=None"
        )


def _check_cu_seqlens(cu_seqlens: Tensor, batch: int, n: int, tracing: bool) -> None:
    if cu_seqlens.ndim != 1 or cu_seqlens.is_floating_point():
        raise ValueError(
            f"cu_seq_lens_q: shape {tuple(cu_seqlens.shape)}, {cu_seqlens.dtype}; expected a "
            "one-dimensional tensor of integers"
        )
    if tracing:
        return
    ends = (int(cu_seqlens[0]), int(cu_seqlens[-1])) if len(cu_seqlens) else ()
    if ends != (0, batch * n) or (cu_seqlens.diff() < 0).any():
        raise ValueError(
            f"cu_seq_lens_q={cu_seqlens.tolist()}: expected integers that increase from 0 to B N = "
            f"{batch * n}"
        )


def _expanded(name: str, index: Tensor, batch: int, n: int) -> Tensor:
    if index.is_floating_point():
        raise TypeError(f"{name}: {index.dtype}; expected int32 or int64")
    rows, columns = index.shape if index.ndim == 2 else (0, 0)
    if columns != n or (rows != batch and rows != 1):
        raise ValueError(f"{name}: shape {tuple(index.shape)}; expected ({batch}, {n})")
    return index.expand(batch, n)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """x[b, index[b, n]], (B, N, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
