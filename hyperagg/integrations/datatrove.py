"""Filters for datatrove that score whole batches of documents.

The filters of datatrove that hold fastText models call them with one text at a time and keep one
copy of the model per process; these call the classifier with `batch_size` texts, and map the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperagg.classifier import Predictor
from hyperagg.integrations.batches import BatchPredictor, class_index

try:
    from datatrove.data import Document
    from datatrove.pipeline.filters import LanguageFilter as _LanguageFilter
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter
    from datatrove.utils.lid import LID
except ImportError as error:
    raise ImportError(
        "datatrove is required: pip install 'hyperagg[datatrove]'", name="datatrove"
    ) from error

__all__ = ["ClassifierFilter", "HyperAggLID", "LanguageFilter"]

Label = str | int
MinScores = tuple[Label, float] | Sequence[tuple[Label, float]]


class ClassifierFilter(BaseFilter):
    """Keep or remove documents by the probabilities of labels, or only annotate them.

    A document is kept if at least one of `keep_labels`, or none of `remove_labels`, has a
    probability of at least its minimum. With neither, every document is kept and annotated.

    Each document gets the metadata "label" and "score": its label and the probability of it.

    Args:
        model: the folder of a saved text classifier, a repository id of the Hugging Face Hub, or a
            predictor.
        keep_labels: a pair (label, minimum probability), or a list of them.
        remove_labels: as `keep_labels`; only one of the two.
        save_labels_in_metadata: whether to add the probability of every class, as "score_LABEL".
        batch_size: the number of documents that are scored together.
        exclusion_writer: writes the documents that are removed.
        mmap: whether all processes of a machine share one copy of the parameters, as in
            `load_predictor`; False for a quantized model.

    Raises:
        ValueError: as `load_predictor`, both kinds of labels are given, or a label is not a class
            of the model.

    Example:
        >>> keep = ClassifierFilter("model", keep_labels=("good", 0.9))  # doctest: +SKIP
    """

    name = "🧮 hyperagg"

    def __init__(
        self,
        model: str | Path | Predictor,
        keep_labels: MinScores | None = None,
        remove_labels: MinScores | None = None,
        save_labels_in_metadata: bool = False,
        batch_size: int = 256,
        exclusion_writer: DiskWriter | None = None,
        mmap: bool = True,
    ) -> None:
        super().__init__(exclusion_writer, batch_size)
        if keep_labels and remove_labels:
            raise ValueError("keep_labels, remove_labels: expected only one of them")
        self.scorer = BatchPredictor(model, mmap=mmap)
        self.keep = self._columns("keep_labels", keep_labels)
        self.remove = self._columns("remove_labels", remove_labels)
        self.save_labels_in_metadata = save_labels_in_metadata

    def _columns(self, name: str, labels: MinScores | None) -> list[tuple[int, Label, float]]:
        given: Any = labels or []
        pairs = [given] if given and not isinstance(given[0], tuple | list) else given
        predictor = self.scorer.predictor
        return [
            (class_index(predictor, label, name), label, float(minimum)) for label, minimum in pairs
        ]

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Return whether to keep a document, and why it is removed."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """Return whether to keep each document, and why it is removed."""
        found = self.scorer.score([doc.text for doc in batch])
        probabilities = found.probabilities.tolist()
        for doc, label, score, row in zip(batch, found.labels, found.scores, probabilities):
            doc.metadata["label"] = label
            doc.metadata["score"] = score if isinstance(score, list) else float(score)
            if self.save_labels_in_metadata:
                names = self.scorer.predictor.classes_
                doc.metadata |= {f"score_{name}": p for name, p in zip(names, row)}
        return [self._decide(row) for row in probabilities]

    def _decide(self, row: list[float]) -> bool | tuple[bool, str]:
        if self.keep:
            if any(row[column] >= minimum for column, _, minimum in self.keep):
                return True
            _, label, minimum = max(self.keep, key=lambda one: row[one[0]] - one[2])
            return False, f"{label}_below_{minimum:g}"
        for column, label, minimum in self.remove:
            if row[column] >= minimum:
                return False, f"{label}_from_{minimum:g}"
        return True


class HyperAggLID(LID):
    """Language identification by a text classifier whose labels are languages.

    Args:
        model: as in `ClassifierFilter`.
        languages: the languages whose scores are returned (default: all).
        mmap: as in `ClassifierFilter`.
    """

    def __init__(
        self,
        model: str | Path | Predictor,
        languages: list[str] | None = None,
        mmap: bool = True,
    ) -> None:
        super().__init__(languages)
        self.predictor = BatchPredictor(model, mmap=mmap).predictor
        for language in languages or []:
            class_index(self.predictor, language, "languages")

    def predict(self, doc: Document) -> tuple[tuple[str, float], dict[str, float]]:
        """Return the most probable language with its score, and the scores by language."""
        return self.predict_batch([doc])[0]

    def predict_batch(
        self, batch: list[Document]
    ) -> list[tuple[tuple[str, float], dict[str, float]]]:
        """Return what `predict` returns, for each document."""
        classes = [str(label) for label in self.predictor.classes_]
        found = []
        for row in self.predictor.predict_proba([doc.text for doc in batch]).tolist():
            scores = dict(zip(classes, row))
            best = max(scores.items(), key=lambda pair: pair[1])
            if self.languages:
                scores = {language: scores[language] for language in self.languages}
            found.append((best, scores))
        return found


class LanguageFilter(_LanguageFilter):
    """datatrove's LanguageFilter with a classifier of this library, in batches.

    Args:
        model: as in `ClassifierFilter`; its labels are languages.
        languages: the language or languages to keep (default: all).
        language_threshold: the score that a document has to exceed.
        batch_size: the number of documents that are scored together.
        mmap: as in `ClassifierFilter`.
        **options: exclusion_writer, label_only and keep_top_pairs_threshold, as in datatrove.
    """

    name = "🌍 Language ID (hyperagg)"

    def __new__(cls, *args: Any, **options: Any) -> LanguageFilter:
        # datatrove's own method requires fastText to be installed.
        return object.__new__(cls)

    def __init__(
        self,
        model: str | Path | Predictor,
        languages: list[str] | str | None = None,
        language_threshold: float = 0.65,
        batch_size: int = 256,
        mmap: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(languages, language_threshold, **options)
        self.batch_size = batch_size
        self.lid = HyperAggLID(model, self.languages, mmap)
        self.model: Any = self.lid

    def filter_batch(self, batch: list[Document]) -> list[bool]:
        """Return whether to keep each document."""
        kept = []
        for doc, answer in zip(batch, self.lid.predict_batch(batch)):
            self.model = _Answered(answer)
            kept.append(bool(self.filter(doc)))
        self.model = self.lid
        return kept


class _Answered:
    """Stands for a model while datatrove decides about a document that has been scored."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, doc: Document) -> Any:
        return self.answer
