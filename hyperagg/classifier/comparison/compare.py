"""Aggregation beside baselines on one data set: accuracy, size and speed.

The models are those of `hyperagg.classifier.comparison.models`.

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
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, write_results
from hyperagg._common.runs import Runs
from hyperagg._common.tensors import digest_texts
from hyperagg._common.validation import check_integer
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.baselines.predictions import correct_rows, label_counts, pack_labels
from hyperagg.classifier.baselines.search import Diverged
from hyperagg.classifier.baselines.selection import (
    held_out_fold,
    held_out_folds,
    select_parameters,
)
from hyperagg.classifier.baselines.significance import paired_f1_test, paired_test
from hyperagg.classifier.comparison.models import (
    EXTERNAL,
    NEURAL,
    VARIANTS,
    compile_kernels,
    external_baseline,
    installed_baselines,
    model_folder,
    run_aggregation,
    run_external,
    run_neural,
)
from hyperagg.classifier.comparison.report import draw_learning_curves, results_markdown
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.explanation_report import explanation_page
from hyperagg.classifier.predictor import load_predictor
from hyperagg.classifier.training.labels import encode_labels, unique_labels
from hyperagg.data import Dataset, Split

__all__ = [
    "RUNS_FILE",
    "compare",
]

_logger = logging.getLogger("hyperagg")

RUNS_FILE = "runs.json"
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
        baselines: names from `models.BASELINES`; None: those of `models.DEFAULT_BASELINES` that are
            installed.
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
    >>> from hyperagg.classifier.comparison.dataset import dataset_from_rows
    >>> rows = Split(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    >>> data = dataset_from_rows("films", rows)
    >>> results = compare(data, ["words"], 1, mkdtemp(), progress=False, callback=lambda line: None)
    >>> list(results["models"])
    ['aggregation', 'words']
    """
    out = Path(out)
    report = callback or _logger.info
    check_integer("seeds", seeds, 1)
    names = [*(["aggregation"] if aggregation else []), *installed_baselines(baselines, report)]
    multi_label = dataset.train.multi_label
    encode_labels(dataset.test.labels, unique_labels(dataset.train.labels), "test labels")
    metric = "micro_f1" if multi_label else "accuracy"
    # Neural baselines learn from the training part only, and so does what stands beside them.
    from_a_part = [name for name in names if name in NEURAL or name == "words"]
    refit = not from_a_part
    commit = environment()["commit"]
    runs = Runs(out / RUNS_FILE, _study(dataset), resume)
    classes = unique_labels(dataset.train.labels)
    # The external baselines share the rows and their features; no test row is among them.
    held_out = cache(partial(held_out_folds, dataset.train.texts, dataset.train.labels))

    def key(name: str, seed: int) -> str:
        code = f" commit={commit}" if name in VARIANTS else ""
        search = ""
        if name in EXTERNAL and search_seconds is not None:
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
        for name in [name for name in names if name in VARIANTS and key(name, 0) in runs.done]:
            if not _holds_model(out, name, runs.done[key(name, 0)]):
                report(f"{name}, seed 0, is trained again: {out} does not have its model")
                del runs.done[key(name, 0)]
    if not refit and len(names) > len(from_a_part):
        subject = f"{' and '.join(from_a_part)} {'do' if len(from_a_part) > 1 else 'does'}"
        report(f"{subject} not learn from the held-out rows; here, neither do the others")
    if any(key(name, 0) not in runs.done for name in names if name in VARIANTS):
        compile_kernels(multi_label)
    for seed in range(seeds):
        for name in names:
            # On all rows, every seed would give the same model.
            if seed and refit and name in EXTERNAL and not external_baseline(name).depends_on_seed:
                continue
            if key(name, seed) not in runs.done:
                if name in EXTERNAL:
                    search = _select(name, held_out, runs, search_seconds, autotune_seconds, report)
                    rows = dataset.train if refit else _training_part(dataset.train, seed)
                    try:
                        run, predicted = run_external(name, rows, dataset.test, search, seed)
                    except Diverged as error:
                        report(f"{name}, seed {seed}, is left out: {error}")
                        continue
                elif name in NEURAL:
                    run, predicted = run_neural(name, dataset, epochs, seed, progress)
                else:
                    config = {**VARIANTS[name], "epochs": epochs, "refit": refit}
                    kept = out if save_models and seed == 0 else None
                    run, predicted = run_aggregation(name, dataset, config, seed, kept, progress)
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
        if name in EXTERNAL:
            results["models"][name]["search"] = done[0]["search"]
    if aggregation:
        results["paired"] = _paired(by_model, dataset.test.labels, classes)
    results["learning_curves"] = {
        name: [[np.cumsum(run["seconds"]).tolist(), run["validation_score"]] for run in done]
        for name, done in by_model.items()
        if name not in EXTERNAL
    }
    if save_models:
        draw_learning_curves(results["learning_curves"], out / "learning_curves.png", report)
        if aggregation:
            classifier = TextClassifier.from_pretrained(model_folder(out, "aggregation"))
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


def _holds_model(out: Path, name: str, run: dict[str, Any]) -> bool:
    """Whether the model of a run is still the one that was saved by this name."""
    try:
        return load_predictor(model_folder(out, name)).fingerprint == run.get("fingerprint")
    except ValueError:
        return False


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
        baseline = external_baseline(name)
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
