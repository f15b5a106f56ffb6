"""A stage of NeMo Curator that scores whole batches of documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperagg.integrations.batches import BatchPredictor

try:
    from nemo_curator.stages.base import ProcessingStage
    from nemo_curator.stages.resources import Resources
    from nemo_curator.tasks import DocumentBatch
except ImportError as error:
    raise ImportError(
        "NeMo Curator is required: pip install nemo-curator", name="nemo_curator"
    ) from error

__all__ = ["ClassifierStage"]


class ClassifierStage(ProcessingStage[DocumentBatch, DocumentBatch]):
    """Add the label and score of each document, and keep the documents above a minimum score.

    Args:
        model: the folder of a saved text classifier, or a repository id of the Hugging Face Hub.
        min_score: documents with a lower score are dropped (default: none are).
        **options: the other arguments of `BatchPredictor`.

    Raises:
        ValueError: as `BatchPredictor`.
    """

    name = "hyperagg_classifier"
    resources = Resources(cpus=1.0)

    def __init__(self, model: str | Path, min_score: float | None = None, **options: Any) -> None:
        self.predictor = BatchPredictor(model, **options)
        if min_score is not None and self.predictor.score_column is None:
            raise ValueError(f"min_score={min_score}: expected a score_column")
        self.min_score = min_score

    def inputs(self) -> tuple[list[str], list[str]]:
        """Return the attributes and columns that the stage reads."""
        return ["data"], [self.predictor.text]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Return the attributes and columns that the stage writes."""
        columns = self.predictor.label_column, self.predictor.score_column
        return ["data"], [column for column in columns if column is not None]

    def process(self, task: DocumentBatch) -> DocumentBatch:
        """Return the batch with its new columns, of the type that was given."""
        data = self.predictor(task.data)
        if self.min_score is not None:
            kept = np.asarray(data[self.predictor.score_column]) >= self.min_score
            data = data[kept] if hasattr(data, "loc") else data.filter(kept)
        return DocumentBatch(
            dataset_name=task.dataset_name,
            data=data,
            _stage_perf=task._stage_perf,
            _metadata=task._metadata,
        )
