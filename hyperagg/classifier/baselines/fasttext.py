"""The fastText library, with word pairs and its default dimension of 100."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._numba.cpus import default_threads
from hyperagg.classifier.training.labels import unique_labels
from hyperagg.text import WORD_PATTERN

__all__ = ["FastTextClassifier"]

_PREFIX = "__label__"


class FastTextClassifier:
    """Classify texts by fastText's supervised model with word pairs.

    Args:
        learning_rate: initial learning rate.
        epochs: passes over the training rows.
        threads: training threads (default: as many as `TextClassifier` uses).

    Raises:
        ImportError: fastText is not installed.
    """

    GRID = tuple(
        {"learning_rate": rate, "epochs": epochs}
        for rate, epochs in itertools.product((0.1, 0.5, 1.0), (5, 15, 50))
    )
    depends_on_seed = True

    def __init__(
        self, learning_rate: float = 0.1, epochs: int = 5, *, threads: int | None = None
    ) -> None:
        try:
            import fasttext
        except ImportError as error:
            raise ImportError(
                "the baseline fasttext needs fastText: pip install 'hyperagg[baselines]'",
                name="fasttext",
            ) from error
        self.library = fasttext
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.threads = threads

    def fit(self, X: Sequence[str], y: Sequence[Any], *, seed: int = 0) -> FastTextClassifier:
        """Learn from texts and their labels."""
        self.classes_, self.multi_label_ = unique_labels(y), isinstance(y[0], tuple)
        names = {label: f"{_PREFIX}{i}" for i, label in enumerate(self.classes_)}
        # fastText reads rows in file order, and learns badly from rows sorted by class.
        order = np.random.default_rng(seed).permutation(len(X))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.txt"
            with file.open("w", encoding="utf-8") as out:
                for i in order:
                    labels = y[i] if self.multi_label_ else [y[i]]
                    out.write(f"{' '.join(names[label] for label in labels)} {_line(X[i])}\n")
            self.model_ = self.library.train_supervised(
                str(file),
                lr=self.learning_rate,
                epoch=self.epochs,
                wordNgrams=2,
                dim=100,
                thread=self.threads or default_threads(),
                loss="ova" if self.multi_label_ else "softmax",
                seed=seed,
                verbose=0,
            )
        return self

    def predict(self, X: Sequence[str]) -> list[Any]:
        """Return the label of each text, or a tuple of labels."""
        # The wrapper of the Python module does not work with NumPy 2.
        k, threshold = (-1, 0.5) if self.multi_label_ else (1, 0.0)
        lines = [_line(text) + "\n" for text in X]
        found, _ = self.model_.f.multilinePredict(lines, k, threshold, "strict")
        rows = [tuple(self.classes_[int(name[len(_PREFIX) :])] for name in row) for row in found]
        return rows if self.multi_label_ else [row[0] if row else self.classes_[0] for row in rows]

    def num_parameters(self) -> int:
        """Return the number of elements of the input and the output matrix."""
        matrices = self.model_.f.getInputMatrix(), self.model_.f.getOutputMatrix()
        return int(sum(np.asarray(matrix).size for matrix in matrices))


def _line(text: str) -> str:
    return " ".join(WORD_PATTERN.findall(text.lower()))
