"""Test accuracy by number of labelled texts: the default classifier beside baselines.

Every draw takes texts at random from the training rows. The baselines choose their features by
three-fold cross-validation on the texts drawn, with a fixed regularization; aggregation has its
default settings. No choice uses test rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.palette import series_styles
from hyperagg._common.report import environment, markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from hyperagg.classifier import TextClassifier
from hyperagg.classifier.baselines.fasttext import FastTextClassifier
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.baselines.linear import (
    ComplementNBClassifier,
    LinearSVCClassifier,
    LogisticRegressionClassifier,
    NBSVMClassifier,
)
from hyperagg.classifier.baselines.selection import mean_score
from hyperagg.data import Dataset
from research.analysis.figures import save_figure
from research.data.text_sets import load_texts
from research.studies.parallel_sets import measure_sets

__all__ = [
    "METHODS",
    "SIZES",
    "curve_table",
    "draw_curves",
    "lead_table",
    "measure_curve",
    "measure_curves",
]

SIZES = (30, 100, 300, 1_000, 3_000)
TEST_ROWS = 3_000
_FOLDS = 3
_FEATURES = (
    {"word_ngrams": 2, "char_ngrams": 0},
    {"word_ngrams": 0, "char_ngrams": 4},
    {"word_ngrams": 2, "char_ngrams": 4},
)
_SUBWORDS = (
    {"word_ngrams": 2, "min_chars": 0, "max_chars": 0},
    {"word_ngrams": 1, "min_chars": 2, "max_chars": 4},
)


class _SmallFastText(FastTextClassifier):
    """fastText with few buckets, on one thread, in at least 30,000 steps or 500 epochs."""

    def __init__(self, num_texts: int, **features: int) -> None:
        epochs = min(500, max(25, 30_000 // num_texts))
        super().__init__(0.5, epochs, d_model=20, buckets=200_000, threads=1, **features)


# The class and the settings among which cross-validation chooses, by name.
_BASELINES: dict[str, tuple[Any, tuple[dict[str, Any], ...]]] = {
    "linear_svc": (LinearSVCClassifier, tuple({**each, "strength": 1.0} for each in _FEATURES)),
    "logistic_regression": (
        LogisticRegressionClassifier,
        tuple({**each, "strength": 10.0} for each in _FEATURES),
    ),
    "complement_nb": (
        ComplementNBClassifier,
        tuple({**each, "strength": 0.2} for each in _FEATURES),
    ),
    "nb_svm": (
        NBSVMClassifier,
        tuple(
            {**each, "strength": 1.0, "interpolation": interpolation}
            for each in _FEATURES
            for interpolation in (0.25, 1.0)
        ),
    ),
    "fasttext": (_SmallFastText, _SUBWORDS),
}
METHODS = ("aggregation", *_BASELINES)


def measure_curves(
    names: Sequence[str],
    sizes: Sequence[int],
    draws: int,
    methods: Sequence[str],
    out: Path,
    *,
    test_rows: int = TEST_ROWS,
    jobs: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Measure learning curves on several data sets.

    results.json, table.md, lead.md and curves.png are written after each data set.

    Args:
        names: data sets, see `load_texts`.
        sizes: numbers of labelled texts.
        draws: number of draws per size.
        methods: names from `METHODS`.
        out: an existing folder. It also gets a file of runs and a log per data set.
        test_rows: number of test rows, the same for all draws.
        jobs: number of data sets that are measured at a time, each in a process.
        resume: keep finished runs. Those of aggregation are repeated if the commit of the code has
            changed since.

    Returns:
        the contents of results.json: under "accuracy" a list of accuracies, one per draw, by data
        set, size and method.
    """
    measure = partial(
        _measure_set,
        sizes=sizes,
        draws=draws,
        methods=methods,
        out=out,
        test_rows=test_rows,
        resume=resume,
    )
    results: dict[str, Any] = {
        "environment": environment(),
        "test_rows": test_rows,
        "draws": draws,
        "settings": {name: candidates for name, (_, candidates) in _BASELINES.items()},
    }

    def write(found: dict[str, Any]) -> None:
        results["accuracy"] = found
        write_results(out, results)
        tables = {"table": curve_table}
        if "aggregation" in methods:
            tables["lead"] = lead_table
        for name, table in tables.items():
            with atomic_write(out / f"{name}.md") as draft:
                draft.write_text(table(results), "utf-8")
        draw_curves(results, out / "curves.png")

    measure_sets(measure, names, jobs, write)
    return results


def _measure_set(
    name: str,
    sizes: Sequence[int],
    draws: int,
    methods: Sequence[str],
    out: Path,
    test_rows: int,
    resume: bool,
) -> dict[str, dict[str, list[float]]]:
    data = load_texts(name)
    rows = np.random.default_rng(0).permutation(len(data.test))[:test_rows]
    test = [data.test.texts[i] for i in rows], [data.test.labels[i] for i in rows]
    runs = Runs(out / f"{name}.runs.json", f"learning curve {name} {test_rows}", resume)
    with (out / f"{name}.log").open("a", encoding="utf-8") as log:

        def report(line: str) -> None:
            log.write(line + "\n")
            log.flush()

        return measure_curve(data, test, sizes, draws, methods, runs, report)


def measure_curve(
    data: Dataset,
    test: tuple[Sequence[str], Sequence[Any]],
    sizes: Sequence[int],
    draws: int,
    methods: Sequence[str],
    runs: Runs,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, list[float]]]:
    """Measure the learning curves of one data set.

    Args:
        data: its training rows are drawn from; sizes that it does not have are left out.
        test: texts and labels to measure on.
        sizes, draws, methods: as for `measure_curves`.
        runs: finished runs, by size, draw and method.
        report: called with one line per run, with the time that is left at this rate.

    Returns:
        {size: {method: accuracies}}, the sizes as strings.
    """
    commit = environment()["commit"]

    def key(size: int, draw: int, method: str) -> str:
        return f"{size} {draw} {method}" + (f" {commit}" if method == "aggregation" else "")

    cells = [
        (size, draw, method)
        for size in sizes
        if size <= len(data.train)
        for draw in range(draws)
        for method in methods
    ]
    left = sum(key(*cell) not in runs.done for cell in cells)
    started, finished = time.perf_counter(), 0
    shared: dict[tuple[int, int], tuple[list[Fold], Fold]] = {}
    for size, draw, method in cells:
        if key(size, draw, method) in runs.done:
            continue
        if (size, draw) not in shared:  # the methods share the features of a draw
            shared = {(size, draw): _folds(data, test, size, draw)}
        folds, final = shared[size, draw]
        begun = time.perf_counter()
        run = _run(method, folds, final, draw)
        run["seconds"] = time.perf_counter() - begun
        runs.add(key(size, draw, method), run)
        finished += 1
        rate = (time.perf_counter() - started) / finished
        report(
            f"{size} texts, draw {draw}, {method}: {100 * run['accuracy']:.2f} %, "
            f"{run['seconds']:.1f} s; {left - finished} left, "
            f"about {(left - finished) * rate / 60:.0f} min"
        )
    found: dict[str, dict[str, list[float]]] = {}
    for size, draw, method in cells:
        accuracies = found.setdefault(str(size), {}).setdefault(method, [])
        accuracies.append(runs.done[key(size, draw, method)]["accuracy"])
    return found


def _folds(
    data: Dataset, test: tuple[Sequence[str], Sequence[Any]], size: int, draw: int
) -> tuple[list[Fold], Fold]:
    """Folds for cross-validation of a draw, and the whole draw with the test rows."""
    order = np.random.default_rng([size, draw]).permutation(len(data.train)).tolist()
    labels = data.train.labels
    rows = order[:size]
    if len({labels[i] for i in rows}) == 1:
        # A classifier needs two classes.
        rows[-1] = next(i for i in order if labels[i] != labels[rows[0]])
    texts, known = [data.train.texts[i] for i in rows], [labels[i] for i in rows]
    folds = []
    for k in range(_FOLDS):
        inside = [i for i in range(size) if i % _FOLDS != k]
        outside = [i for i in range(size) if i % _FOLDS == k]
        if len({known[i] for i in inside}) > 1:
            folds.append(
                Fold(
                    [texts[i] for i in inside],
                    [known[i] for i in inside],
                    [texts[i] for i in outside],
                    [known[i] for i in outside],
                )
            )
    return folds, Fold(texts, known, *test)


def _run(method: str, folds: Sequence[Fold], final: Fold, draw: int) -> dict[str, Any]:
    if method == "aggregation":
        classifier = TextClassifier().fit(final.texts, final.labels, seed=draw, progress=False)
        predicted = classifier.predict(final.held_out_texts)
        right = [one == other for one, other in zip(predicted, final.held_out_labels)]
        return {"accuracy": float(np.mean(right))}
    baseline, candidates = _BASELINES[method]
    if baseline is _SmallFastText:
        baseline = partial(_SmallFastText, len(final.texts))
    scores = [mean_score(baseline, each, folds) if folds else 0.0 for each in candidates]
    chosen = candidates[int(np.argmax(scores))]
    return {"accuracy": mean_score(baseline, chosen, [final]), "parameters": chosen}


def curve_table(results: Mapping[str, Any]) -> str:
    """Format mean ± standard deviation over the draws, in %, and the means over the data sets."""
    curves: Mapping[str, Any] = results["accuracy"]
    sizes = list(dict.fromkeys(size for curve in curves.values() for size in curve))
    methods = list(
        dict.fromkeys(m for curve in curves.values() for cell in curve.values() for m in cell)
    )
    rows = []
    for size in sizes:
        cells = [curve[size] for curve in curves.values() if size in curve]
        means = [f"{100 * np.mean([np.mean(cell[m]) for cell in cells]):.2f}" for m in methods]
        rows.append([f"mean of {len(cells)} data sets", f"{int(size):,}", *means])
    for name, curve in curves.items():
        for size, cell in curve.items():
            rows.append([name, f"{int(size):,}", *(spread(cell[m]) for m in methods)])
    return markdown_table(["dataset", "labelled texts", *methods], rows)


def lead_table(results: Mapping[str, Any]) -> str:
    """Format the mean accuracy of aggregation, in %, and in parentheses how many points it is ahead
    of the baseline with the highest mean, by data set and size."""
    curves: Mapping[str, Any] = results["accuracy"]
    sizes = list(dict.fromkeys(size for curve in curves.values() for size in curve))

    def lead(cells: Sequence[Mapping[str, Any]]) -> str:
        if not cells:
            return ""
        means = {m: 100 * np.mean([np.mean(cell[m]) for cell in cells]) for m in cells[0]}
        own = means.pop("aggregation")
        lead = round(own - max(means.values()), 1) + 0.0  # not -0.0
        return f"{own:.1f} ({lead:+.1f})"

    groups = {f"mean of {len(curves)}": list(curves.values())}
    groups |= {name: [curve] for name, curve in curves.items()}
    rows = [
        [name, *(lead([curve[size] for curve in group if size in curve]) for size in sizes)]
        for name, group in groups.items()
    ]
    return markdown_table(["dataset", *(f"{int(size):,}" for size in sizes)], rows)


def draw_curves(results: Mapping[str, Any], path: Path) -> None:
    """Draw accuracy against the number of labelled texts, one panel per data set."""
    from matplotlib.figure import Figure

    curves: Mapping[str, Any] = results["accuracy"]
    columns = min(5, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.4 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, (name, curve) in zip(panels, curves.items()):
        for method, style in series_styles(next(iter(curve.values()))).items():
            sizes = [int(size) for size in curve]
            means = [100 * np.mean(cell[method]) for cell in curve.values()]
            width = 2.0 if method == "aggregation" else 1.0
            panel.plot(sizes, means, **style._asdict(), markersize=4, linewidth=width, label=method)
        panel.set(xscale="log", title=name)
        panel.grid(alpha=0.3)
    for panel in panels[len(curves) :]:
        panel.remove()
    figure.supxlabel("labelled texts (log scale)")
    figure.supylabel("test accuracy (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6)
    save_figure(figure, path)
