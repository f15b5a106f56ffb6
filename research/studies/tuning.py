"""What `tune` selects, and the accuracy on test rows of what it keeps and of what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, write_results
from hyperagg._common.runs import Runs
from hyperagg.classifier import TextClassifier, tune
from hyperagg.classifier.tuning.report import to_json
from hyperagg.data import Dataset
from research.data.text_sets import load_texts
from research.studies.parallel_sets import measure_sets

__all__ = ["DATASETS", "measure_choice", "measure_choices", "tuning_table"]

DATASETS = ("r8", "mr", "wisesight", "ag-news", "20ng")
TEST_ROWS = 3_000
# The number of trials ends the search, so that every run gives the same result.
_TIME_LIMIT = 1e6


def measure_choices(
    names: Sequence[str],
    rows: int,
    trials: int,
    seeds: int,
    out: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Tune on several data sets, and write results.json and table.md.

    Args:
        names: data sets, see `load_texts`.
        rows: the number of training rows, drawn at random for each seed.
        trials: the number of trials, the default included.
        seeds: the number of searches per data set.
        out: an existing folder. It also gets a file of runs per data set.
        jobs: number of data sets that are measured at a time, each in a process.
        resume: keep finished runs.

    Returns:
        the contents of results.json: under "runs" by data set the list of what `measure_choice`
        returns.
    """
    measure = partial(_measure_set, rows=rows, trials=trials, seeds=seeds, out=out, resume=resume)
    results = {
        "environment": environment(),
        "rows": rows,
        "trials": trials,
        "runs": measure_sets(measure, names, jobs),
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(tuning_table(results), "utf-8")
    return results


def _measure_set(
    name: str, rows: int, trials: int, seeds: int, out: Path, resume: bool
) -> list[dict[str, Any]]:
    data = load_texts(name)
    runs = Runs(out / f"{name}.runs.json", f"tuning {name} {rows} {trials}", resume)
    for seed in range(seeds):
        if str(seed) not in runs.done:
            runs.add(str(seed), measure_choice(data, rows, trials, seed))
    return [runs.done[str(seed)] for seed in range(seeds)]


def measure_choice(data: Dataset, rows: int, trials: int, seed: int) -> dict[str, Any]:
    """Tune on some training rows, and measure the best trial and the default on test rows.

    Returns:
        what `to_json` returns, and under "test" the accuracies "default" and "best" after training
        on all of these rows.
    """
    drawn = np.random.default_rng(seed).permutation(len(data.train))[:rows]
    texts = [data.train.texts[i] for i in drawn]
    labels = [data.train.labels[i] for i in drawn]
    result = tune(texts, labels, time_limit=_TIME_LIMIT, trials=trials, seed=seed, progress=False)
    measured = np.random.default_rng(0).permutation(len(data.test))[:TEST_ROWS]
    true = [data.test.labels[i] for i in measured]

    def accuracy(classifier: TextClassifier) -> float:
        answers = classifier.predict([data.test.texts[i] for i in measured])
        return float(np.mean([a == b for a, b in zip(answers, true)]))

    trained = {id(result.selected_trial): result.classifier}
    test = {}
    for name, trial in (("default", result.trials[0]), ("best", result.best_trial)):
        if id(trial) not in trained:
            arguments = {} if trial is result.trials[0] else trial.config
            trained[id(trial)] = TextClassifier(**arguments).fit(
                texts, labels, seed=seed, progress=False
            )
        test[name] = accuracy(trained[id(trial)])
    return {**to_json(result), "test": test}


def tuning_table(results: Mapping[str, Any]) -> str:
    """Format one row per search: gains over the default in points, and what was trained.

    The last row has the means of those searches that a trial other than the default won.
    """
    cells = []
    gains = []
    for name, runs in results["runs"].items():
        for seed, run in enumerate(runs):
            compared, test = run["comparison"], run["test"]
            scores = [run["trials"][i]["score"] for i in (run["best_trial"], 0)]
            held_out, error, rows = "–", "–", "–"
            if compared is not None:
                held_out = f"{100 * compared['difference']:+z.2f}"
                error = f"{100 * compared['standard_error']:.2f}"
                rows = f"{compared['num_rows']:,}"
                found = compared["difference"], test["best"] - test["default"]
                gains.append((scores[0] - scores[1], *found))
            cells.append(
                [
                    name,
                    str(seed),
                    f"{100 * (scores[0] - scores[1]):+z.2f}",
                    held_out,
                    error,
                    rows,
                    "the default" if run["selected_trial"] == 0 else f"trial {run['best_trial']}",
                    f"{100 * test['default']:.2f}",
                    f"{100 * (test['best'] - test['default']):+z.2f}",
                ]
            )
    if gains:
        search, other, measured = (f"{100 * gain:+z.2f}" for gain in np.mean(gains, axis=0))
        mean = f"mean of {len(gains)}"
        cells.append([mean, "", search, other, "", "", "", "", measured])
    columns = ["dataset", "seed", "in the search", "on other rows", "standard error", "rows"]
    columns += ["trained", "default on test rows", "best trial on test rows"]
    return markdown_table(columns, cells)
