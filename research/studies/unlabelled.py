"""Test accuracy with few labels: the default classifier with and without texts that have none.

Every draw takes labelled texts at random from the training rows. All other training rows, up to
25,000 in total, are texts without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from hyperagg.classifier import TextClassifier
from hyperagg.data import Dataset
from research.data.text_sets import load_texts
from research.studies.parallel_sets import measure_sets

__all__ = ["DATASETS", "SIZES", "measure_gain", "measure_gains", "unlabelled_table"]

DATASETS = ("imdb", "ag-news", "r8", "mr", "wisesight")
SIZES = (100, 300, 1_000, 3_000)
MAX_TRAINING_ROWS, TEST_ROWS = 25_000, 3_000


def measure_gains(
    names: Sequence[str],
    sizes: Sequence[int],
    draws: int,
    out: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Measure several data sets, and write results.json and table.md.

    Args:
        names: data sets, see `load_texts`.
        sizes: numbers of labelled texts.
        draws: number of draws per size.
        out: an existing folder. It also gets a file of runs per data set.
        jobs: number of data sets that are measured at a time, each in a process.
        resume: keep finished runs.

    Returns:
        the contents of results.json: under "accuracy" by data set and size the lists "labelled" and
        "unlabelled" of accuracies, one per draw; and under "rows" the number of training rows.
    """
    measure = partial(_measure_set, sizes=sizes, draws=draws, out=out, resume=resume)
    found = measure_sets(measure, names, jobs)
    results = {
        "environment": environment(),
        "draws": draws,
        "rows": {name: rows for name, (rows, _) in found.items()},
        "accuracy": {name: accuracy for name, (_, accuracy) in found.items()},
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(unlabelled_table(results), "utf-8")
    return results


def _measure_set(
    name: str, sizes: Sequence[int], draws: int, out: Path, resume: bool
) -> tuple[int, dict[str, dict[str, list[float]]]]:
    data = load_texts(name)
    runs = Runs(out / f"{name}.runs.json", f"unlabelled {name}", resume)
    rows = min(len(data.train), MAX_TRAINING_ROWS)
    return rows, measure_gain(data, sizes, draws, runs)


def measure_gain(
    data: Dataset, sizes: Sequence[int], draws: int, runs: Runs
) -> dict[str, dict[str, list[float]]]:
    """Measure one data set.

    Args:
        data: its training rows are drawn from; sizes that it does not have are left out.
        sizes, draws: as for `measure_gains`.
        runs: finished runs, by size and draw.

    Returns:
        {size: {"labelled": accuracies, "unlabelled": accuracies}}, the sizes as strings.
    """
    rows = np.random.default_rng(0).permutation(len(data.test))[:TEST_ROWS]
    test = [data.test.texts[i] for i in rows], [data.test.labels[i] for i in rows]
    found: dict[str, dict[str, list[float]]] = {}
    for size in sizes:
        for draw in range(draws) if size < len(data.train) else ():
            key = f"{size} {draw}"
            if key not in runs.done:
                runs.add(key, _run(data, test, size, draw))
            for method, accuracy in runs.done[key].items():
                found.setdefault(str(size), {}).setdefault(method, []).append(accuracy)
    return found


def _run(
    data: Dataset, test: tuple[list[str], list[Any]], size: int, draw: int
) -> dict[str, float]:
    order = np.random.default_rng([size, draw]).permutation(len(data.train)).tolist()
    texts = [data.train.texts[i] for i in order[:MAX_TRAINING_ROWS]]
    labels = [data.train.labels[i] for i in order[:size]]
    # A label that the draw lacks cannot be predicted, and counts as an error of both.
    classifiers = {
        "labelled": TextClassifier().fit(texts[:size], labels, seed=draw),
        "unlabelled": TextClassifier().fit(
            texts[:size], labels, unlabelled=texts[size:], seed=draw
        ),
    }
    return {
        method: float(np.mean([a == b for a, b in zip(classifier.predict(test[0]), test[1])]))
        for method, classifier in classifiers.items()
    }


def unlabelled_table(results: Mapping[str, Any]) -> str:
    """Format mean ± standard deviation over the draws, in %, and the mean difference."""
    rows = []
    for name, sizes in results["accuracy"].items():
        for size, cell in sizes.items():
            gain = 100 * float(np.mean(cell["unlabelled"]) - np.mean(cell["labelled"]))
            further = results["rows"][name] - int(size)
            rows.append(
                [
                    name,
                    f"{int(size):,}",
                    f"{further:,}",
                    spread(cell["labelled"]),
                    spread(cell["unlabelled"]),
                    f"{gain:+z.2f}",
                ]
            )
    columns = ["dataset", "labelled", "unlabelled", "without these", "with them", "difference"]
    return markdown_table(columns, rows)
