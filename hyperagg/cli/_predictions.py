"""Print the answers to logits that are all known, in the formats of `predict`."""

from __future__ import annotations

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.batch_prediction.encoders import make_encoder
from hyperagg.classifier.batch_prediction.encoding import OutputFormat, Rows
from hyperagg.classifier.batch_prediction.output import StandardOutput
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions, Predictions

__all__ = ["print_predictions"]


def print_predictions(
    decoder: LabelDecoder,
    logits: np.ndarray,
    options: PredictionOptions,
    label_separator: str = "|",
) -> None:
    """Print one line per row of the logits (B, C): its labels, or JSON where there is more."""
    several = decoder.multi_label or options.ranked
    name = "jsonl" if options.ranked or options.probabilities else "labels"
    format = OutputFormat(
        name,
        decoder.classes,
        several=several,
        probabilities=options.probabilities,
        label_separator=label_separator,
    )
    rows = Rows("", range(len(logits)), [""] * len(logits), {})
    answers = Predictions.from_logits(decoder, logits, options)
    StandardOutput().write(make_encoder(format).encode(rows, answers))
