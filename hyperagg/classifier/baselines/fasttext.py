"""The fastText library, with all its parameters that matter for accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._numba.cpus import default_threads
from hyperagg.classifier.baselines.search import Axis, Diverged, OneTwoFive, Steps
from hyperagg.classifier.baselines.words import separate_words
from hyperagg.classifier.training.labels import unique_labels

__all__ = ["FastTextClassifier", "write_training_file"]

_PREFIX = "__label__"


class FastTextClassifier:
    """Classify texts by fastText's supervised model.

    Args:
        learning_rate: initial learning rate.
        epochs: passes over the training rows.
        word_ngrams: largest number of words in a feature.
        min_chars, max_chars: the numbers of characters of the n-grams inside words, which fastText
            calls subwords (minn and maxn); max_chars=0: none.
        d_model: dimension of the vectors.
        buckets: hash buckets of all n-grams.
        threads: training threads (default: as many as `TextClassifier` uses). With one thread the
            model is deterministic.

    Raises:
        ImportError: fastText is not installed.
    """

    AXES: Mapping[str, Axis] = {
        "learning_rate": OneTwoFive(),
        "epochs": OneTwoFive(integer=True, maximum=100),  # as in fastText's own search
        "word_ngrams": Steps(1),
        "max_chars": Steps(0),
        "min_chars": Steps(0),
        "d_model": OneTwoFive(integer=True),
    }
    SCALING: Sequence[str] = ("learning_rate", "epochs")
    STARTS: Sequence[Mapping[str, Any]] = tuple(
        {
            "learning_rate": 0.5,
            "epochs": 10,
            "word_ngrams": 2,
            "min_chars": min_chars,
            "max_chars": max_chars,
            "d_model": 20,
        }
        for min_chars, max_chars in ((0, 0), (2, 4))
    )
    depends_on_seed = True

    def __init__(
        self,
        learning_rate: float = 0.1,
        epochs: int = 5,
        *,
        word_ngrams: int = 2,
        min_chars: int = 0,
        max_chars: int = 0,
        d_model: int = 100,
        buckets: int = 2_000_000,
        threads: int | None = None,
    ) -> None:
        self.fasttext = _import_fasttext()
        self.epochs = epochs
        self.threads = threads
        self._options = {
            "lr": learning_rate,
            "epoch": epochs,
            "wordNgrams": word_ngrams,
            "minn": min_chars,
            "maxn": max_chars,
            "dim": d_model,
            "bucket": buckets,
        }

    @staticmethod
    def canonical(parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with 1 <= min_chars <= max_chars, or both 0."""
        max_chars = parameters["max_chars"]
        min_chars = min(max(parameters["min_chars"], 1), max_chars)
        return {**parameters, "min_chars": min_chars}

    def fit(self, X: Sequence[str], y: Sequence[Any], *, seed: int = 0) -> FastTextClassifier:
        """Learn from texts and their labels.

        Raises:
            Diverged: the parameters become NaN, as with a learning rate that is too high.
        """
        self.classes_, self.multi_label_ = unique_labels(y), isinstance(y[0], tuple)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.txt"
            write_training_file(file, X, y, self.classes_, seed)
            try:
                self.model_ = self.fasttext.train_supervised(
                    str(file),
                    **self._options,
                    thread=self.threads or default_threads(),
                    loss="ova" if self.multi_label_ else "softmax",
                    seed=seed,
                    verbose=0,
                )
            except RuntimeError as error:
                if "NaN" not in str(error):
                    raise
                rate = self._options["lr"]
                raise Diverged(f"fastText diverges with learning_rate={rate}") from error
        return self

    def predict(self, X: Sequence[str]) -> list[Any]:
        """Return the label of each text, or a tuple of labels."""
        # The wrapper of the Python module does not work with NumPy 2.
        k, threshold = (-1, 0.5) if self.multi_label_ else (1, 0.0)
        lines = [separate_words(text) + "\n" for text in X]
        found, _ = self.model_.f.multilinePredict(lines, k, threshold, "strict")
        rows = [tuple(self.classes_[int(name[len(_PREFIX) :])] for name in row) for row in found]
        return rows if self.multi_label_ else [row[0] if row else self.classes_[0] for row in rows]

    def num_parameters(self) -> int:
        """Return the number of elements of the input and the output matrix."""
        matrices = self.model_.f.getInputMatrix(), self.model_.f.getOutputMatrix()
        return int(sum(np.asarray(matrix).size for matrix in matrices))


def _import_fasttext() -> Any:
    try:
        import fasttext
    except ImportError as error:
        raise ImportError(
            "the baseline fasttext needs fastText: pip install 'hyperagg[baselines]'",
            name="fasttext",
        ) from error
    return fasttext


def write_training_file(
    file: Path, X: Sequence[str], y: Sequence[Any], classes: Sequence[Any], seed: int
) -> None:
    """Write texts and labels as fastText reads them; the seed determines their order."""
    names = {label: f"{_PREFIX}{i}" for i, label in enumerate(classes)}
    # fastText reads rows in file order, and learns badly from rows sorted by class.
    order = np.random.default_rng(seed).permutation(len(X))
    with file.open("w", encoding="utf-8") as out:
        for i in order:
            labels = y[i] if isinstance(y[i], tuple) else [y[i]]
            out.write(f"{' '.join(names[label] for label in labels)} {separate_words(X[i])}\n")
