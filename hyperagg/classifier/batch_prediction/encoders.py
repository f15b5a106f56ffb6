"""The encoder of each format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperagg.classifier.batch_prediction.encoding import (
    CsvEncoder,
    Encoder,
    JsonEncoder,
    LabelEncoder,
    OutputFormat,
)

__all__ = ["make_encoder"]


def make_encoder(format: OutputFormat, types: Mapping[str, Any] | None = None) -> Encoder:
    """Return the encoder of a format; `types` are the Arrow types of kept columns."""
    if format.name == "parquet":
        # pyarrow takes as long to import as everything else.
        from hyperagg.classifier.batch_prediction.parquet import ArrowEncoder

        return ArrowEncoder(format, types)
    return {"labels": LabelEncoder, "jsonl": JsonEncoder, "csv": CsvEncoder}[format.name](format)
