"""Accuracy of the default classifier and of baselines at their best, per data set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, spread, write_results
from hyperagg.classifier.baselines.significance import verdict
from hyperagg.classifier.comparison.compare import compare
from research.data.text_sets import load_texts
from research.provenance import mixture_note
from research.studies.parallel_sets import measure_sets

__all__ = ["accuracy_table", "measure_accuracy", "write_accuracy"]


def measure_accuracy(
    names: Sequence[str],
    baselines: Sequence[str],
    seeds: int,
    out: Path,
    *,
    aggregation: bool = True,
    autotune_seconds: int = 60,
    limit: int | None = None,
    jobs: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Compare aggregation with baselines on several data sets, and write results.json and table.md.

    Both are written after each data set. Every data set has a folder in `out` with its runs and
    results; log.txt there gets a line per candidate and run. All models have one thread, so that
    fastText is deterministic as well.

    Args:
        names: data sets, see `load_texts`.
        baselines: as for `compare`.
        seeds: number of seeds.
        out: an existing folder.
        aggregation: whether aggregation is trained too.
        autotune_seconds: duration of fastText's own search, see `compare`.
        limit: largest number of rows of either split.
        jobs: number of data sets that are measured at a time, each in a process.
        resume: keep finished candidates and runs.

    Returns:
        the results of `compare` by data set, in the order of `names`.
    """
    measure = partial(
        _measure,
        baselines=list(baselines),
        seeds=seeds,
        out=out,
        aggregation=aggregation,
        autotune_seconds=autotune_seconds,
        limit=limit,
        resume=resume,
    )
    return measure_sets(measure, names, jobs, partial(write_accuracy, out))


def _measure(name: str, out: Path, limit: int | None, **options: Any) -> dict[str, Any]:
    folder = out / name
    folder.mkdir(exist_ok=True)
    started = time.perf_counter()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:

        def report(line: str) -> None:
            minutes, seconds = divmod(int(time.perf_counter() - started), 60)
            log.write(f"{minutes:4d}:{seconds:02d} {line}\n")
            log.flush()

        return compare(
            load_texts(name, limit),
            options.pop("baselines"),
            options.pop("seeds"),
            folder,
            save_models=False,
            progress=False,
            callback=report,
            **options,
        )


def write_accuracy(out: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write results.json and table.md to `out`.

    Args:
        out: an existing folder.
        results: the results of `hyperagg.classifier.comparison.compare.compare`, by data set.
    """
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(accuracy_table(results), "utf-8")


def accuracy_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Format test accuracy in %, with the seconds from texts in memory to a model in brackets.

    For data sets with several labels per text it is the micro-F1.

    If aggregation was tested against the baselines, the last column has the result of the paired
    test against the one with the highest test accuracy. Below the table are the commits and the
    processors of its rows, if these differ.
    """
    models = list(dict.fromkeys(name for result in results.values() for name in result["models"]))
    tested = any("paired" in result for result in results.values())
    rows = [
        [
            dataset,
            f"{result['rows']['train']:,}",
            *(
                f"{spread(model[_metric(result)])} ({model['fit_seconds']:.1f} s)"
                if (model := result["models"].get(name))
                else ""
                for name in models
            ),
            *([_against_the_best(result)] if tested else []),
        ]
        for dataset, result in results.items()
    ]
    last = ["aggregation and the best baseline"] if tested else []
    columns = ["dataset", "training rows", *models, *last]
    return markdown_table(columns, rows) + mixture_note(results)


def _against_the_best(result: Mapping[str, Any]) -> str:
    if not result.get("paired"):
        return ""
    best = max(result["paired"], key=lambda name: np.mean(result["models"][name][_metric(result)]))
    return f"{best}: {verdict(result['paired'][best])}"


def _metric(result: Mapping[str, Any]) -> str:
    return result.get("metric", "accuracy")
