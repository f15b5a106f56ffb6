"""Aggregation beside baselines on one data set: accuracy, size and speed.

"aggregation" is the default `TextClassifier`. "words" is aggregation with the features of the
neural baselines: words only, without n-grams, and their embedding dimension. It differs from them
in more than the mixer, since every model is trained as is best for it: "words" by Adagrad with a
rate per row, document by document, for up to 10 epochs; the neural baselines by SparseAdam and
AdamW, in batches of 32 documents, for 4 or 5 epochs, on at most 512 tokens per document. A
difference between them is one of whole models and not of mixers alone.

"attention" and "transformer" are trained by PyTorch. The external
baselines are linear models on TF-IDF features of words and characters ("linear_svc",
"logistic_regression", "complement_nb" and "nb_svm"), and the fastText library ("fasttext").

The validation part of the training rows selects the epoch, and the parameters of the external
baselines; see `select_parameters`. Neural baselines and "words" learn from the other part alone; so
does every model beside them. The test rows are read once, at the end. Models are trained in turn,
seed by seed, in one process with the same number of threads. The predictions of every run are kept,
and a paired test on the test rows compares aggregation with every baseline: of the accuracy, or of
the micro-F1 if texts have several labels.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, write_results
from hyperagg._common.runs import Runs
from hyperagg._common.split import train_validation_split
from hyperagg._common.tensors import digest_texts
from hyperagg._common.validation import check_choice, check_integer, check_real
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.baselines.predictions import correct_rows, label_counts, pack_labels
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.baselines.search import Diverged
from hyperagg.classifier.baselines.selection import (
    held_out_fold,
    held_out_folds,
    select_parameters,
)
from hyperagg.classifier.baselines.significance import paired_f1_test, paired_test
from hyperagg.classifier.compare_report import draw_learning_curves, results_markdown
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.explanation_report import explanation_page
from hyperagg.classifier.predictor import load_predictor
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels
from hyperagg.data import Dataset, Split

__all__ = [
    "BASELINES",
    "DEFAULT_BASELINES",
    "EXTERNAL",
    "RUNS_FILE",
    "SAVED",
    "compare",
    "dataset_from_rows",
]

_logger = logging.getLogger("hyperagg")

_VARIANTS: dict[str, dict[str, Any]] = {
    "aggregation": {},
    "words": {"max_ngrams": 0, "d_model": 256},
}
_NEURAL = ("attention", "transformer")
_EXTERNAL = {
    "linear_svc": ("hyperagg.classifier.baselines.linear", "LinearSVCClassifier"),
    "logistic_regression": ("hyperagg.classifier.baselines.linear", "LogisticRegressionClassifier"),
    "complement_nb": ("hyperagg.classifier.baselines.linear", "ComplementNBClassifier"),
    "nb_svm": ("hyperagg.classifier.baselines.linear", "NBSVMClassifier"),
    "fasttext": ("hyperagg.classifier.baselines.fasttext", "FastTextClassifier"),
}
EXTERNAL = tuple(_EXTERNAL)
SAVED = tuple(_VARIANTS)  # the models that are saved
RUNS_FILE = "runs.json"
BASELINES = ("words", *_NEURAL, *EXTERNAL)
# The transformer takes twice as long as attention, the slowest of these.
DEFAULT_BASELINES = ("words", "linear_svc", "fasttext", "attention")

# What a user can compare, by the part of the key of a run.
_OPTIONS = {
    "epochs": "--epochs",
    "search": "--search",
    "rows": "the training rows, which depend on --baselines",
}

_NUM_EXPLAINED = 10  # of the first test rows, and of errors, in explanations.html


def compare(
    dataset: Dataset,
    baselines: Sequence[str] | None,
    seeds: int,
    out: str | Path,
    *,
    epochs: int | None = None,
    aggregation: bool = True,
    search_seconds: float | None = None,
    autotune_seconds: int = 0,
    save_models: bool = True,
    resume: bool = False,
    replace: bool = True,
    progress: bool | None = None,
    callback: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train and measure aggregation and the baselines on one data set.

    Writes results.json, table.md, learning_curves.png (if matplotlib is installed),
    explanations.html with test rows and what their words contribute, the classifiers of seed 0, and
    runs.json to `out`: every candidate of the searches and every run with its predictions; see
    `unpack_labels`.

    Args:
        dataset: training and test rows.
        baselines: names from `BASELINES`; None: those of `DEFAULT_BASELINES` that are installed.
        seeds: number of seeds, 0 ... seeds - 1.
        out: the folder to write to.
        epochs: the number of epochs of aggregation and the neural baselines; None: the default of
            each.
        aggregation: whether aggregation itself is trained.
        search_seconds: time limit of the search for the parameters of each external baseline; see
            `select_parameters`. 0: default settings, without a search; None: until no neighbor of
            the best parameters is better, which takes minutes for each.
        autotune_seconds: duration of fastText's own search; the search for its parameters then
            starts from the result as well. 0: without it.
        save_models: whether the classifiers, the figure and the page are written.
        resume: keep the runs that an interrupted call left in `out`. Those of aggregation are
            repeated if the commit of the code has changed since, or if `out` does not have their
            model any more.
        replace: whether a finished comparison in `out` may be resumed with other options, whose
            results and models then replace its own; more baselines or seeds replace nothing.
        progress: show progress bars; None: in a terminal or a notebook.
        callback: called with one line per measured run and per item that is skipped; None: the
            lines are logged.

    Returns:
        the contents of results.json.

    Raises:
        ValueError: an unknown baseline, or test rows with labels that the training rows lack;
            or the runs in `out` are to be resumed, and are those of other rows or damaged, or
            those of a finished comparison with other options that is not to be replaced.
        ImportError: a baseline that is named is not installed. Nothing was trained then.

    Cost: most of the time trains the baselines; attention takes O(n^2) for a text of n tokens.

    >>> from tempfile import mkdtemp
    >>> rows = Split(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    >>> data = dataset_from_rows("films", rows)
    >>> results = compare(data, ["words"], 1, mkdtemp(), progress=False, callback=lambda line: None)
    >>> list(results["models"])
    ['aggregation', 'words']
    """
    out = Path(out)
    report = callback or _logger.info
    check_integer("seeds", seeds, 1)
    names = [*(["aggregation"] if aggregation else []), *_installed(baselines, report)]
    multi_label = dataset.train.multi_label
    encode_labels(dataset.test.labels, unique_labels(dataset.train.labels), "test labels")
    metric = "micro_f1" if multi_label else "accuracy"
    # Neural baselines learn from the training part only, and so does what stands beside them.
    refit = not any(name in _NEURAL or name == "words" for name in names)
    commit = environment()["commit"]
    runs = Runs(out / RUNS_FILE, _study(dataset), resume)
    classes = unique_labels(dataset.train.labels)
    # The external baselines share the rows and their features; no test row is among them.
    held_out = cache(partial(held_out_folds, dataset.train.texts, dataset.train.labels))

    def key(name: str, seed: int) -> str:
        code = f" commit={commit}" if name in _VARIANTS else ""
        search = ""
        if name in _EXTERNAL and search_seconds is not None:
            search = f" search={search_seconds:g}"
        rows = "" if refit else " rows=training part"
        return f"{name} epochs={epochs} seed={seed}{search}{rows}{code}"

    if resume and not replace and (out / "results.json").exists():
        requested = [key(name, seed) for name in names for seed in range(seeds)]
        if options := _changed_options(requested, runs.done):
            raise ValueError(
                f"{out}: holds a comparison that differs in {' and '.join(options)}; give another "
                "folder, or replace it with --force"
            )
    if save_models:
        for name in [name for name in names if name in _VARIANTS and key(name, 0) in runs.done]:
            if not _holds_model(out, name, runs.done[key(name, 0)]):
                report(f"{name}, seed 0, is trained again: {out} does not have its model")
                del runs.done[key(name, 0)]
    if any(key(name, 0) not in runs.done for name in names if name in _VARIANTS):
        _compile_kernels(multi_label)
    for seed in range(seeds):
        for name in names:
            # On all rows, every seed would give the same model.
            if seed and refit and name in _EXTERNAL and not _external(name).depends_on_seed:
                continue
            if key(name, seed) not in runs.done:
                if name in _EXTERNAL:
                    search = _select(name, held_out, runs, search_seconds, autotune_seconds, report)
                    rows = dataset.train if refit else _training_part(dataset.train, seed)
                    try:
                        run, predicted = _run_external(name, rows, dataset.test, search, seed)
                    except Diverged as error:
                        report(f"{name}, seed {seed}, is left out: {error}")
                        continue
                elif name in _NEURAL:
                    run, predicted = _run_neural(name, dataset, epochs, seed, progress)
                else:
                    config = {**_VARIANTS[name], "epochs": epochs, "refit": refit}
                    kept = out if save_models and seed == 0 else None
                    run, predicted = _run_aggregation(name, dataset, config, seed, kept, progress)
                run["predictions"] = pack_labels(predicted, classes)
                runs.add(key(name, seed), run)
            run = runs.done[key(name, seed)]
            report(
                f"{name}, seed {seed}: {metric.replace('_', '-')} {100 * run[metric]:.2f} %, "
                f"{run['fit_seconds']:.1f} s to fit, "
                f"{run['predict_documents_per_second']:,.0f} documents/s"
            )
    keys = {name: [key(name, seed) for seed in range(seeds)] for name in names}
    keys = {name: [each for each in own if each in runs.done] for name, own in keys.items()}
    by_model = {name: [runs.done[each] for each in own] for name, own in keys.items() if own}
    results: dict[str, Any] = {
        "dataset": dataset.name,
        "source": dataset.source,
        "rows": {"train": len(dataset.train.texts), "test": len(dataset.test.texts)},
        "metric": metric,
        "environment": runs.environment(each for own in keys.values() for each in own),
        "classes": classes,
        "models": {name: _summary(done, metric) for name, done in by_model.items()},
    }
    for name, done in by_model.items():
        if name in _EXTERNAL:
            results["models"][name]["search"] = done[0]["search"]
    if aggregation:
        results["paired"] = _paired(by_model, dataset.test.labels, classes)
    results["learning_curves"] = {
        name: [[np.cumsum(run["seconds"]).tolist(), run["validation_score"]] for run in done]
        for name, done in by_model.items()
        if name not in _EXTERNAL
    }
    if save_models:
        draw_learning_curves(results["learning_curves"], out / "learning_curves.png", report)
        if aggregation:
            classifier = TextClassifier.from_pretrained(_model_folder(out, "aggregation"))
            with atomic_write(out / "explanations.html") as draft:
                page = _explanations(classifier, dataset)
                draft.write_text(page, "utf-8", errors="replace")
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(results_markdown(results), "utf-8")
    return results


def _study(dataset: Dataset) -> str:
    """Return what has to be the same when runs are resumed: the rows."""
    splits = (dataset.train, dataset.test)
    texts = [text for split in splits for text in split.texts]
    digest = digest_texts([*texts, repr([list(split.labels) for split in splits])])
    return f"{len(dataset.train.texts)} training rows {digest[:8]}"


def _changed_options(keys: Sequence[str], done: Iterable[str]) -> list[str]:
    """Name the options in which new runs differ from those done of the same model and seed."""
    wanted = [_fields(key) for key in keys if key not in done]
    found = [_fields(key) for key in done if " epochs=" in key]  # the others are of searches
    changed = {
        option
        for new in wanted
        for old in found
        if all(new[part] == old[part] for part in ("model", "seed"))
        for option in _OPTIONS
        if new.get(option) != old.get(option)
    }
    return [text for option, text in _OPTIONS.items() if option in changed]


def _fields(key: str) -> dict[str, str]:
    """Return the parts of the key of a run by name."""
    model, *parts = re.split(r" (?=\w+=)", key)
    return {"model": model, **dict(part.split("=", 1) for part in parts)}


def _model_folder(out: Path, name: str) -> Path:
    # Absolute, since models/NAME could be the name of a model of the hub.
    return out.resolve() / "models" / name


def _holds_model(out: Path, name: str, run: dict[str, Any]) -> bool:
    """Whether the model of a run is still the one that was saved by this name."""
    try:
        return load_predictor(_model_folder(out, name)).fingerprint == run.get("fingerprint")
    except ValueError:
        return False


def dataset_from_rows(
    name: str,
    rows: Split,
    test: Split | None = None,
    *,
    test_fraction: float = 0.2,
    source: str = "",
) -> Dataset:
    """Make a `Dataset` of a user's own rows.

    Args:
        name: the name of the data set.
        rows: texts and labels to learn from.
        test: texts and labels to measure on; None: a fraction of `rows`, a contiguous run of each
            class. A row with a label that no training row has is learned from instead.
        test_fraction: that fraction.
        source: one line on the origin of the rows.

    Raises:
        ValueError: there are too few rows per class to measure on any.

    >>> data = dataset_from_rows("films", Split(["good", "bad"] * 10, ["yes", "no"] * 10))
    >>> len(data.train), len(data.test)
    (16, 4)
    """
    if test is not None:
        return Dataset(name, rows, test, source)
    check_real("test_fraction", test_fraction, 0, 1, open_minimum=True, open_maximum=True)
    targets = encode_labels(rows.labels, unique_labels(rows.labels), "labels")
    training, measured = train_validation_split(first_classes(targets), test_fraction, 0)
    known = set(targets.take(training).token_ids.tolist())
    held_out = []
    for i in measured.tolist():
        if known.issuperset(targets.take(np.array([i])).token_ids.tolist()):
            held_out.append(i)
    if not held_out:
        raise ValueError(
            f"{name}: {len(rows):,} rows; expected at least {int(np.ceil(1 / test_fraction))} rows "
            "of a class, so that some can be measured on"
        )
    learned = np.setdiff1d(np.arange(len(rows)), held_out).tolist()
    return Dataset(name, _take(rows, learned), _take(rows, held_out), source)


def _installed(baselines: Sequence[str] | None, report: Callable[[str], None]) -> list[str]:
    """The baselines to train; of the default ones those that can be imported."""
    names = list(DEFAULT_BASELINES if baselines is None else baselines)
    found, missing = [], {}
    for name in names:
        check_choice("baselines", name, BASELINES)
        try:
            if name in _NEURAL:
                import_module("hyperagg.classifier.baselines.neural")
            elif name in _EXTERNAL:
                _external(name)()
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


def _external(name: str) -> Any:
    module, attribute = _EXTERNAL[name]
    return getattr(import_module(module), attribute)


def _select(
    name: str,
    held_out: Callable[[], Sequence[Fold]],
    runs: Runs,
    search_seconds: float | None,
    autotune_seconds: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """What `select_parameters` finds for an external baseline, once for all seeds."""
    limit = "" if search_seconds is None else f" within {search_seconds:g} s"
    if (key := f"{name} parameters{limit}") not in runs.done:
        baseline = _external(name)
        starts = []
        if name == "fasttext" and autotune_seconds and held_out():
            from hyperagg.classifier.baselines.autotune import autotuned_parameters

            if (own := "fasttext autotune") not in runs.done:
                parameters = autotuned_parameters(held_out()[0], autotune_seconds)
                runs.add(own, {"parameters": parameters, "seconds": autotune_seconds})
            if parameters := runs.done[own]["parameters"]:
                starts.append(parameters)
            report(f"fastText's own search: {parameters or 'it failed'}")
        found = select_parameters(
            baseline,
            held_out(),
            name=name,
            seconds=search_seconds,
            more_starts=starts,
            runs=runs,
            report=report,
        )
        runs.add(key, found)
        values = ", ".join(f"{axis} {value}" for axis, value in found["parameters"].items())
        how = f"the best of {found['candidates_sample'] + found['candidates']} candidates"
        if found["score"] is None:
            how = "default settings, without a search"
        elif not found["is_complete"]:
            how += f": the search ended at its limit of {search_seconds:g} s"
        report(f"{name}: {values} ({how})")
    return runs.done[key]


def _training_part(rows: Split, seed: int) -> Split:
    """The rows that `TextClassifier` learns from if it does not learn from all of them."""
    fold = held_out_fold(rows.texts, rows.labels, seed)
    return rows if fold is None else Split(list(fold.texts), list(fold.labels))


def _paired(
    by_model: dict[str, list[dict[str, Any]]], labels: Sequence[Any], classes: Sequence[Any]
) -> dict[str, Any]:
    """Test aggregation against every baseline, on the test rows."""
    packed = {name: [run["predictions"] for run in runs] for name, runs in by_model.items()}
    others = [name for name in packed if name != "aggregation"]
    if not isinstance(labels[0], tuple):
        correct = {name: correct_rows(runs, labels, classes) for name, runs in packed.items()}
        return {name: paired_test(correct["aggregation"], correct[name]) for name in others}
    counts = {name: label_counts(runs, labels, classes) for name, runs in packed.items()}
    true = np.array([len(set(row)) for row in labels])
    return {name: paired_f1_test(counts["aggregation"], counts[name], true) for name in others}


def _run_aggregation(
    name: str,
    dataset: Dataset,
    config: dict[str, Any],
    seed: int,
    out: Path | None,
    progress: bool | None,
) -> tuple[dict[str, Any], list[Any]]:
    classifier = TextClassifier(**config)
    started = time.perf_counter()
    classifier.fit(dataset.train.texts, dataset.train.labels, seed=seed, progress=progress)
    fit_seconds = time.perf_counter() - started
    fingerprint = None
    if out is not None:
        classifier.save_pretrained(_model_folder(out, name))
        fingerprint = load_predictor(_model_folder(out, name)).fingerprint
    history = classifier.history_
    parameters = classifier.model_.num_parameters()
    predicted, speed = _predict(classifier, dataset.test.texts)
    return {
        **classifier.evaluate(dataset.test.texts, dataset.test.labels),
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


def _run_neural(
    name: str, dataset: Dataset, epochs: int | None, seed: int, progress: bool | None
) -> tuple[dict[str, Any], list[Any]]:
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


def _compile_kernels(multi_label: bool) -> None:
    """Compile what a machine has not run before, so that it is not part of the time of a fit."""
    labels: list[Any] = [("a",), ("b",)] if multi_label else ["a", "b"]
    TextClassifier(epochs=1).fit(["one", "two"] * 20, labels * 20, progress=False).predict("one")


def _explanations(classifier: TextClassifier, dataset: Dataset) -> str:
    """A page of the first test rows, and of the errors with the highest loss."""
    texts, labels = dataset.test.texts, dataset.test.labels
    first = range(min(_NUM_EXPLAINED, len(texts)))
    worst = classifier.evaluation(texts, labels).worst_rows(_NUM_EXPLAINED)
    rows = list(dict.fromkeys([*first, *worst]))
    return explanation_page(
        [classifier.explain(texts[i]) for i in rows],
        f"{dataset.name}: test rows, and the errors with the highest loss",
        names=[f"test row {i + 1}" for i in rows],
        true_labels=[labels[i] for i in rows],
    )


def _run_external(
    name: str, rows: Split, test: Split, search: dict[str, Any], seed: int
) -> tuple[dict[str, Any], list[Any]]:
    parameters = search["parameters"]
    classifier = _external(name)(**parameters)
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


def _summary(runs: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The runs of one model: a list of scores per seed, and medians of times."""
    first = runs[0]
    error = "expected_calibration_error"
    return {
        metric: [run[metric] for run in runs],
        "macro_f1": [run["macro_f1"] for run in runs],
        error: [run[error] for run in runs if error in run],
        "parameters": first["parameters"],
        "parameters_without_embedding": first["parameters_without_embedding"],
        "max_tokens": first["max_tokens"],
        "training_config": first["training_config"],
        "best_epoch": [run["best_epoch"] for run in runs],
        "train_seconds_per_epoch": float(np.median([s for run in runs for s in run["seconds"]])),
        "fit_seconds": float(np.median([run["fit_seconds"] for run in runs])),
        "predict_documents_per_second": float(
            np.median([run["predict_documents_per_second"] for run in runs])
        ),
    }


def _take(rows: Split, indices: Sequence[int]) -> Split:
    labels: Any = [rows.labels[i] for i in indices]
    return Split([rows.texts[i] for i in indices], labels)
