"""Predicts batches of rows: Arrow tables, pandas data frames and dicts of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hyperagg.classifier import Predictor, load_predictor

__all__ = ["BatchPredictor", "Scores", "class_index"]

Label = str | int


class Scores(NamedTuple):
    """The answers to B texts.

    Attributes:
        labels: the label of each text; of a multi-label model the list of its labels.
        scores: their probabilities, (B,) float32 or a list of lists; or (B,) that of one class.
        probabilities: (B, C) the probability of every class.
    """

    labels: Sequence[Any]
    scores: Any
    probabilities: np.ndarray


class BatchPredictor:
    """Add the predicted label and its probability to batches of rows.

    An instance is a function for Hugging Face datasets; the class is what Ray Data makes actors
    from. It is pickled as the path of the model with a fingerprint, so its own fingerprint in
    datasets' cache is the same in every process and changes with the model. A missing text is
    treated as an empty one.

    Args:
        model: the folder of a saved text classifier, a repository id of the Hugging Face Hub, or a
            predictor.
        text: the column of the texts.
        label_column: the name of the new column of labels; None leaves it out. The labels of a
            multi-label model are lists.
        score_column: the name of the new column of probabilities; None leaves it out.
        score_of: the class whose probability is the score (default: the predicted label). A quality
            filter needs the score of one class, not of whichever is more probable.
        mmap: whether the workers of a machine share one copy of the parameters, as in
            `load_predictor`; False for a quantized model.
        threads: the number of threads per batch. Pipelines run one worker per core.

    Raises:
        ValueError: as `load_predictor`, `score_of` is not a class of the model, or both new columns
            have one name.

    Example:
        >>> from hyperagg import TextClassifier
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> clf.save_pretrained("model")
        >>> BatchPredictor("model")({"text": ["a good film"]})["label"]
        ['yes']
    """

    def __init__(
        self,
        model: str | Path | Predictor,
        *,
        text: str = "text",
        label_column: str | None = "label",
        score_column: str | None = "score",
        score_of: Label | None = None,
        mmap: bool = True,
        threads: int | None = 1,
    ) -> None:
        if label_column is not None and label_column == score_column:
            raise ValueError(
                f"score_column={score_column!r}: is the label_column too; expected another name"
            )
        if not isinstance(model, Predictor):
            model = load_predictor(model, mmap=mmap, threads=threads)
        self.predictor = model
        self.text, self.label_column, self.score_column = text, label_column, score_column
        self.score_of = score_of
        self._column = None if score_of is None else class_index(model, score_of, "score_of")

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the new columns, of the type that was given.

        Args:
            batch: an Arrow table or record batch, a pandas data frame, or a dict of columns.

        Raises:
            KeyError: the batch has no column of that name.
            ValueError: it has a column with the name of a new one.
        """
        import pyarrow as pa

        names = batch.column_names if isinstance(batch, pa.Table | pa.RecordBatch) else list(batch)
        if self.text not in names:
            raise KeyError(f"text={self.text!r}: expected one of the columns {names}")
        for argument in ("label_column", "score_column"):
            if getattr(self, argument) in names:
                raise ValueError(
                    f"{argument}={getattr(self, argument)!r}: the batch has a column of that name; "
                    "give another one"
                )
        found = self.score(batch[self.text])
        columns = {self.label_column: found.labels, self.score_column: found.scores}
        columns.pop(None, None)
        if isinstance(batch, pa.Table | pa.RecordBatch):
            for name, values in columns.items():
                own = self._arrow_type(name == self.label_column)
                batch = batch.append_column(name, pa.array(values, own))
            return batch
        if isinstance(batch, Mapping):
            if all(isinstance(column, np.ndarray) for column in batch.values()):
                columns = {name: _to_numpy(values) for name, values in columns.items()}
            return {**batch, **columns}
        return batch.assign(**{str(name): list(values) for name, values in columns.items()})

    def _arrow_type(self, of_labels: bool) -> Any:
        """The type of a new column; an empty batch does not show it."""
        import pyarrow as pa

        integers = all(isinstance(label, int) for label in self.predictor.classes_)
        own = (pa.int64() if integers else pa.string()) if of_labels else pa.float32()
        several = self.predictor.multi_label_ and (of_labels or self._column is None)
        return pa.list_(own) if several else own

    def score(self, texts: Any) -> Scores:
        """Return the labels and scores of a column of texts."""
        decoder = self.predictor.decoder
        logits = self.predictor.logits(_fill_missing(texts))
        probabilities = decoder.probabilities(logits)
        if decoder.multi_label:
            found = decoder.decide(logits)
            labels: list[Any] = [list(own) for own in decoder.labels(logits)]
            scores: Any = [own[mask].tolist() for own, mask in zip(probabilities, found)]
        else:
            best = decoder.best(logits)
            classes = decoder.classes
            labels = [classes[c] for c in best.tolist()]
            scores = probabilities[np.arange(len(best)), best]
        if self._column is not None:
            scores = probabilities[:, self._column]
        return Scores(labels, scores, probabilities)


def class_index(predictor: Predictor, label: Label, argument: str) -> int:
    """Return the column of a label in `predict_proba`.

    Raises:
        ValueError: it is not a class of the model; the message names the argument.
    """
    classes = predictor.classes_
    if label not in classes:
        shown = ", ".join(map(repr, classes[:10])) + (" and others" if len(classes) > 10 else "")
        raise ValueError(f"{argument}: {label!r} is not a class; expected one of {shown}")
    return classes.index(label)


def _fill_missing(texts: Any) -> list[Any]:
    """Return a column as a list, with the empty text for null, None, NaN and NA."""
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(texts, method):
            texts = getattr(texts, method)()
            break
    return ["" if _is_missing(text) else text for text in texts]


def _is_missing(value: Any) -> bool:
    try:
        # NaN is the only value that is not equal to itself.
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA is neither true nor false
        return True


def _to_numpy(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    if values and isinstance(values[0], list):
        rows = np.empty(len(values), dtype=object)
        rows[:] = values
        return rows
    return np.array(values)
