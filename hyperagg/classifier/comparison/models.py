"""Trains and measures one of the models of a comparison.

"aggregation" is the default `TextClassifier`. "words" is aggregation with the features of the
neural baselines: words only, without n-grams, and their embedding dimension. It differs from them
in more than the mixer, since every model is trained as is best for it: "words" by Adagrad with a
rate per row, document by document, for up to 10 epochs; the neural baselines by SparseAdam and
AdamW, in batches of 32 documents, for 4 or 5 epochs, on at most 512 tokens per document. A
difference between them is one of whole models and not of mixers alone.

"attention" and "transformer" are trained by PyTorch. The external baselines are linear models on
TF-IDF features of words and characters ("linear_svc", "logistic_regression", "complement_nb" and
"nb_svm"), and the fastText library ("fasttext").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.validation import check_choice
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.predictor import load_predictor
from hyperagg.data import Dataset, Split

__all__ = [
    "BASELINES",
    "DEFAULT_BASELINES",
    "EXTERNAL",
    "NEURAL",
    "SAVED",
    "VARIANTS",
    "compile_kernels",
    "external_baseline",
    "installed_baselines",
    "model_folder",
    "run_aggregation",
    "run_external",
    "run_neural",
]

VARIANTS: dict[str, dict[str, Any]] = {
    "aggregation": {},
    "words": {"max_ngrams": 0, "d_model": 256},
}
NEURAL = ("attention", "transformer")
_EXTERNAL = {
    "linear_svc": ("hyperagg.classifier.baselines.linear", "LinearSVCClassifier"),
    "logistic_regression": ("hyperagg.classifier.baselines.linear", "LogisticRegressionClassifier"),
    "complement_nb": ("hyperagg.classifier.baselines.linear", "ComplementNBClassifier"),
    "nb_svm": ("hyperagg.classifier.baselines.linear", "NBSVMClassifier"),
    "fasttext": ("hyperagg.classifier.baselines.fasttext", "FastTextClassifier"),
}
EXTERNAL = tuple(_EXTERNAL)
SAVED = tuple(VARIANTS)  # the models that are saved
BASELINES = ("words", *NEURAL, *EXTERNAL)
# The transformer takes twice as long as attention, the slowest of these.
DEFAULT_BASELINES = ("words", "linear_svc", "fasttext", "attention")


def installed_baselines(
    baselines: Sequence[str] | None, report: Callable[[str], None]
) -> list[str]:
    """Return the baselines to train; of the default ones those that can be imported."""
    names = list(DEFAULT_BASELINES if baselines is None else baselines)
    found, missing = [], {}
    for name in names:
        check_choice("baselines", name, BASELINES)
        try:
            if name in NEURAL:
                import_module("hyperagg.classifier.baselines.neural")
            elif name in _EXTERNAL:
                external_baseline(name)()
        except ImportError as error:
            if baselines is not None:
                raise
            missing[name] = str(error)
        else:
            found.append(name)
    for reason in dict.fromkeys(missing.values()):
        skipped = [name for name in missing if missing[name] == reason]
        report(f"{', '.join(skipped)} {'are' if len(skipped) > 1 else 'is'} skipped: {reason}")
    return found


def external_baseline(name: str) -> Any:
    """Return the class of an external baseline, by its name in `EXTERNAL`."""
    module, attribute = _EXTERNAL[name]
    return getattr(import_module(module), attribute)


def compile_kernels(multi_label: bool) -> None:
    """Compile what has not run before, so that it is not part of the time of a fit."""
    labels: list[Any] = [("a",), ("b",)] if multi_label else ["a", "b"]
    TextClassifier(epochs=1).fit(["one", "two"] * 20, labels * 20, progress=False).predict("one")


def run_aggregation(
    name: str,
    dataset: Dataset,
    config: dict[str, Any],
    seed: int,
    out: Path | None,
    progress: bool | None,
) -> tuple[dict[str, Any], list[Any]]:
    """Train one of `VARIANTS`, save it below `out` (None: nowhere), and measure it.

    Returns:
        scores, times and settings of the run, and the predicted labels of the test rows.
    """
    classifier = TextClassifier(**config)
    started = time.perf_counter()
    classifier.fit(dataset.train.texts, dataset.train.labels, seed=seed, progress=progress)
    fit_seconds = time.perf_counter() - started
    history = classifier.history_
    parameters = classifier.model_.num_parameters()
    predicted, speed = _predict(classifier, dataset.test.texts)
    scores = classifier.evaluate(dataset.test.texts, dataset.test.labels)
    # Last, since a model that no run names is not replaced when the comparison is resumed.
    fingerprint = None
    if out is not None:
        classifier.save_pretrained(model_folder(out, name))
        fingerprint = load_predictor(model_folder(out, name)).fingerprint
    return {
        **scores,
        "parameters": parameters,
        "parameters_without_embedding": parameters - classifier.model_.embedding.size,
        "max_tokens": classifier.config.max_tokens,
        "fingerprint": fingerprint,
        "training_config": asdict(
            classifier.config.training_config(
                len(classifier.classes_), len(dataset.train.texts), dataset.train.multi_label
            )
        ),
        "fit_seconds": fit_seconds,
        "seconds": history.seconds,
        "validation_score": history.validation_score,
        "best_epoch": history.best_epoch + 1,
        "predict_documents_per_second": speed,
    }, predicted


def run_neural(
    name: str, dataset: Dataset, epochs: int | None, seed: int, progress: bool | None
) -> tuple[dict[str, Any], list[Any]]:
    """Train one of `NEURAL` and measure it; returns what `run_aggregation` does."""
    from hyperagg.classifier.baselines.neural import NeuralClassifier

    architecture: Any = name
    classifier = NeuralClassifier(architecture, epochs=epochs)
    started = time.perf_counter()
    classifier.fit(dataset.train.texts, dataset.train.labels, seed=seed, progress=progress)
    fit_seconds = time.perf_counter() - started
    parameters = classifier.num_parameters()
    predicted, speed = _predict(classifier, dataset.test.texts)
    return {
        **classifier.evaluate(dataset.test.texts, dataset.test.labels),
        "parameters": parameters,
        "parameters_without_embedding": parameters - classifier.model_.embedding.numel(),
        "max_tokens": classifier.max_tokens,
        "training_config": classifier.training_config(classifier.multi_label_),
        "fit_seconds": fit_seconds,
        "seconds": classifier.epoch_seconds_,
        "validation_score": classifier.validation_scores_,
        "best_epoch": classifier.best_epoch_ + 1,
        "predict_documents_per_second": speed,
    }, predicted


def run_external(
    name: str, rows: Split, test: Split, search: dict[str, Any], seed: int
) -> tuple[dict[str, Any], list[Any]]:
    """Train one of `EXTERNAL` with the parameters of its search, and measure it; returns what
    `run_aggregation` does."""
    parameters = search["parameters"]
    classifier = external_baseline(name)(**parameters)
    started = time.perf_counter()
    classifier.fit(rows.texts, rows.labels, seed=seed)
    fit_seconds = time.perf_counter() - started
    predicted, speed = _predict(classifier, test.texts)
    return {
        **classification_scores(test.labels, predicted),
        "parameters": classifier.num_parameters(),
        "parameters_without_embedding": None,
        "max_tokens": None,
        "training_config": parameters,
        "search": search,
        "fit_seconds": fit_seconds,
        "seconds": [fit_seconds / classifier.epochs] * classifier.epochs,
        "validation_score": [],
        "best_epoch": classifier.epochs,
        "predict_documents_per_second": speed,
    }, predicted


def _predict(classifier: Any, texts: Sequence[str]) -> tuple[list[Any], float]:
    """The labels, and documents/s: the median of 7 passes, or of as many as fit into 10 seconds."""
    seconds: list[float] = []
    predicted: list[Any] = []
    while len(seconds) < 7 and sum(seconds) < 10:
        started = time.perf_counter()
        predicted = classifier.predict(texts)
        seconds.append(time.perf_counter() - started)
    return list(predicted), len(texts) / float(np.median(seconds))


def model_folder(out: Path, name: str) -> Path:
    """Return the folder of the saved model of one of `VARIANTS`."""
    # Absolute, since models/NAME could be the name of a model of the hub.
    return out.resolve() / "models" / name
