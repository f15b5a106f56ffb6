"""Predictions as a user-defined function of Spark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg.integrations.batches import BatchPredictor

try:
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import FloatType, LongType, StringType, StructField, StructType
except ImportError as error:
    raise ImportError("Spark is required: pip install 'hyperagg[spark]'", name="pyspark") from error

__all__ = ["predict_udf"]


def predict_udf(
    model: str | Path,
    *,
    batch_size: int = 1000,
    score_of: str | int | None = None,
    mmap: bool = True,
) -> Any:
    """Return a function of a column of texts that returns structs of a label and a score.

    Each Python worker loads the model once. All workers of a machine share one copy of it.

    Args:
        model: the folder of a saved text classifier, which every node can read, or a repository id
            of the Hugging Face Hub.
        batch_size: the number of texts that are scored together.
        score_of, mmap: as in `BatchPredictor`.

    Raises:
        ValueError: as `BatchPredictor`, or the model is multi-label.

    Example:
        >>> udf = predict_udf("model")  # doctest: +SKIP
        >>> df.select("text", udf("text").alias("answer")).select("text", "answer.*")
        ... # doctest: +SKIP
    """
    predictor = BatchPredictor(model, score_of=score_of, mmap=mmap)
    if predictor.predictor.multi_label_:
        raise ValueError(f"model={str(model)!r}: is multi-label; expected one label per text")
    integers = all(isinstance(label, int) for label in predictor.predictor.classes_)

    def make_predict_fn() -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        def predict(texts: np.ndarray) -> dict[str, np.ndarray]:
            found = predictor.score(texts)
            labels = found.labels if integers else list(map(str, found.labels))
            return {"label": np.array(labels), "score": found.scores}

        return predict

    return predict_batch_udf(
        make_predict_fn,
        return_type=StructType(
            [
                StructField("label", LongType() if integers else StringType()),
                StructField("score", FloatType()),
            ]
        ),
        batch_size=batch_size,
    )
