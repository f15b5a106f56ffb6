"""The kinds of columns: what a model learns about a column, and how its cells become tensors."""

from __future__ import annotations

from typing import Any

from hyperagg.multimodal.columns.audio import AudioColumn
from hyperagg.multimodal.columns.base import Column, EncodedColumn, RowName
from hyperagg.multimodal.columns.image import ImageColumn
from hyperagg.multimodal.columns.tabular import CategoryColumn, NumberColumn
from hyperagg.multimodal.columns.text import TextColumn

__all__ = [
    "COLUMN_TYPES",
    "AudioColumn",
    "CategoryColumn",
    "Column",
    "EncodedColumn",
    "ImageColumn",
    "NumberColumn",
    "RowName",
    "TextColumn",
]

COLUMN_TYPES: dict[str, Any] = {
    column.kind: column
    for column in (TextColumn, NumberColumn, CategoryColumn, ImageColumn, AudioColumn)
}
