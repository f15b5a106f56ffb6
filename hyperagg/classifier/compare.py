"""Aggregation beside its rivals on one data set: accuracy, size, speed, pictures.

"aggregation" is the classifier as it comes. "words" is aggregation in the rivals' skeleton: the
same words and no grams, the same embedding size, so that the mixers alone differ. All are trained
by the same loop; the held-out part of the training rows picks the best epoch. The test rows are
looked at once, at the end. Models take turns seed by seed in one process, with the same number of
threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import (
    environment,
    make_table,
    markdown_table,
    spread,
    times,
    write_results,
)
from hyperagg._common.runs import Runs
from hyperagg.classifier.baselines.linear_and_fasttext import (
    BASELINES,
    choose,
    make_baseline,
    run_baseline,
)
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.data import Dataset
from research.analysis.figures import draw_learning_curves
from research.studies.cosines import write_cosines

__all__ = ["compare", "results_table"]

VARIANTS: dict[str, dict[str, Any]] = {
    "aggregation": {},
    "words": {"max_ngrams": 0, "d_model": 256},
    "attention": {"mixer": "attention"},
    "transformer": {"mixer": "transformer"},
}
RIVALS = (*(name for name in VARIANTS if name != "aggregation"), *BASELINES)


def compare(
    dataset: Dataset,
    rivals: Sequence[str],
    seeds: int,
    out: Path,
    *,
    epochs: int | None = None,
    baseline_seeds: int | None = None,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and measure every model; write results.json, table.md, pictures and models to `out`.

    Args:
        dataset: train and test rows.
        rivals: names of RIVALS.
        seeds: how many; 0 ... seeds - 1.
        out: the folder for everything that is written.
        epochs: the same for all models; None: what was found best for each.
        baseline_seeds: as `seeds`, of BASELINES; None: as many.
        resume: keep the runs that an earlier, interrupted call left in `out`.
        progress: show bars.
        say: told in a line what was measured.

    Returns:
        the contents of results.json.
    """
    for name in rivals:
        if name not in RIVALS:
            raise ValueError(f"rivals: {name!r} is none of {', '.join(RIVALS)}")
    if seeds < 1:
        raise ValueError(f"seeds={seeds}: give 1 or more")
    names = ["aggregation", *rivals]
    for name in BASELINES.keys() & set(rivals):
        make_baseline(name)  # one that is not installed is told at once
    runs = Runs(out / "runs.json", f"{dataset.name} {len(dataset.train.texts)}", resume)
    measure = "micro_f1" if dataset.train.multi_label else "accuracy"
    for seed in range(seeds):
        for name in names:
            if name in BASELINES:
                differ = BASELINES[name].seeds_differ
                if seed >= ((baseline_seeds or seeds) if differ else 1):
                    continue
            key = f"{name} epochs={epochs} seed={seed}"
            if key not in runs.done and name in BASELINES:
                if (chosen := f"{name} chosen") not in runs.done:
                    runs.add(chosen, choose(name, dataset))
                runs.add(key, run_baseline(name, dataset, runs.done[chosen], seed))
            elif key not in runs.done:
                # Beside baselines, which learn all rows, so does it; mixers learn the same rows.
                alone = not any(rival in VARIANTS for rival in rivals)
                config = {**VARIANTS[name], "epochs": epochs, "refit": alone}
                folder = out / "models" / name if seed == 0 else None
                runs.add(key, _run(dataset, config, seed, folder, progress))
            run = runs.done[key]
            say(
                f"{name}, seed {seed}: {measure.replace('_', '-')} {100 * run[measure]:.2f} %, "
                f"{np.median(run['seconds']):.2f} s an epoch, "
                f"{run['predict_docs_per_second']:,.0f} documents/s"
            )
    by_model = {
        name: [
            runs.done[key]
            for seed in range(seeds)
            if (key := f"{name} epochs={epochs} seed={seed}") in runs.done
        ]
        for name in names
    }
    results: dict[str, Any] = {
        "dataset": dataset.name,
        "source": dataset.source,
        "rows": {"train": len(dataset.train.texts), "test": len(dataset.test.texts)},
        "measure": measure,
        "environment": environment(),
        "models": {name: _summary(own, measure) for name, own in by_model.items()},
    }
    results["ratios"] = _ratios(results["models"])
    trained = [name for name in names if name in VARIANTS]
    results["orthogonality"] = _orthogonality(out, trained[1:] if "words" in names else trained)
    curves = {
        name: [(np.cumsum(run["seconds"]).tolist(), run["validation_score"]) for run in own]
        for name, own in by_model.items()
        if name in VARIANTS
    }
    draw_learning_curves(curves, out / "learning_curves.png")
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(markdown_table(_columns(results), _cells(results)), "utf-8")
    return results


def results_table(results: dict[str, Any]) -> Table:
    """The comparison as a table for the terminal."""
    title = f"{results['dataset']}, test rows (×: of aggregation's time)"
    return make_table(title, _columns(results), _cells(results))


def _run(
    dataset: Dataset, config: dict[str, Any], seed: int, folder: Path | None, progress: bool
) -> dict[str, Any]:
    classifier = TextClassifier(**config)
    started = time.perf_counter()
    classifier.fit(dataset.train.texts, dataset.train.labels, seed=seed, progress=progress)
    fit_seconds = time.perf_counter() - started
    if folder is not None:
        classifier.save_pretrained(folder)
    history = classifier.history_
    return {
        **classifier.evaluate(dataset.test.texts, dataset.test.labels),
        **classifier.model.count_parameters(),
        "max_tokens": classifier.config.max_tokens,
        "recipe": asdict(
            classifier.config.recipe(
                len(classifier.classes_), len(dataset.train.texts), dataset.train.multi_label
            )
        ),
        "fit_seconds": fit_seconds,
        "seconds": history.seconds,
        "validation_score": history.validation_score,
        "best_epoch": history.best_epoch + 1,
        "predict_docs_per_second": _documents_per_second(classifier, dataset.test.texts),
    }


def _documents_per_second(classifier: TextClassifier, texts: Sequence[str]) -> float:
    """From text to label: the median of 7 passes, or of as many as 10 seconds hold."""
    times: list[float] = []
    while len(times) < 7 and sum(times) < 10:
        started = time.perf_counter()
        classifier.predict(texts)
        times.append(time.perf_counter() - started)
    return len(texts) / float(np.median(times))


def _summary(runs: Sequence[dict[str, Any]], measure: str) -> dict[str, Any]:
    """One model's runs, a list where each seed has its own figure, else a median or the value."""
    first = runs[0]
    return {
        measure: [run[measure] for run in runs],
        "macro_f1": [run["macro_f1"] for run in runs],
        "calibration_error": [
            run["calibration_error"] for run in runs if "calibration_error" in run
        ],
        "parameters": first["parameters"],
        "parameters_without_embedding": first["without_embedding"],
        "max_tokens": first["max_tokens"],
        "recipe": first["recipe"],
        "best_epoch": [run["best_epoch"] for run in runs],
        "train_seconds_per_epoch": float(np.median([s for run in runs for s in run["seconds"]])),
        "fit_seconds": float(
            np.median([run.get("fit_seconds", sum(run["seconds"])) for run in runs])
        ),
        "predict_docs_per_second": float(
            np.median([run["predict_docs_per_second"] for run in runs])
        ),
    }


def _ratios(models: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times faster aggregation is than each rival."""
    ours = models["aggregation"]
    return {
        name: {
            "train_seconds_per_epoch": rival["train_seconds_per_epoch"]
            / ours["train_seconds_per_epoch"],
            "predict_docs_per_second": ours["predict_docs_per_second"]
            / rival["predict_docs_per_second"],
        }
        for name, rival in models.items()
        if name != "aggregation"
    }


def _orthogonality(out: Path, names: Sequence[str]) -> dict[str, Any]:
    models = {name: TextClassifier.from_pretrained(out / "models" / name) for name in names}
    tables = {name: model.word_vectors() for name, model in models.items()}
    return write_cosines(tables, out / "cosines.png")


def _columns(results: dict[str, Any]) -> list[str]:
    measure = "micro-F1 %" if results["measure"] == "micro_f1" else "accuracy %"
    return [
        "model",
        measure,
        "macro-F1 %",
        "parameters",
        "s/epoch",
        "docs/s",
        "train",
        "predict",
    ]


def _cells(results: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, model in results["models"].items():
        ratio = results["ratios"].get(name)
        rows.append(
            [
                name,
                spread(model[results["measure"]]),
                spread(model["macro_f1"]),
                f"{model['parameters']:,}",
                f"{model['train_seconds_per_epoch']:.2f}",
                f"{model['predict_docs_per_second']:,.0f}",
                "1 ×" if ratio is None else times(ratio["train_seconds_per_epoch"]),
                "1 ×" if ratio is None else times(ratio["predict_docs_per_second"]),
            ]
        )
    return rows
