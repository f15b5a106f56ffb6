"""Reports the outcome of a hyperparameter search: in words, as a table and as JSON."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

from hyperagg._common.metrics import metric_name
from hyperagg._common.report import make_table
from hyperagg.data.readers.columns import pluralize

if TYPE_CHECKING:
    from rich.table import Table

    from hyperagg.classifier.tuning.search import TuningResult
    from hyperagg.classifier.tuning.trial_runner import Trial

__all__ = ["ranked_trials", "summary", "to_json", "trials_table"]

_MAX_ROWS = 20


def ranked_trials(result: TuningResult) -> list[tuple[int, Trial]]:
    """Return the trials with their numbers, the best first; of equal scores the first."""

    def rank(item: tuple[int, Trial]) -> tuple[bool, float]:
        trial = item[1]
        return not trial.valid, 1.0 if isnan(trial.score) else -trial.score

    return sorted(enumerate(result.trials), key=rank)


def summary(result: TuningResult) -> str:
    """Say what won, by how much, and what was trained."""
    default, best, compared = result.trials[0], result.best_trial, result.comparison
    if len(result.trials) == 1:
        return "only the default was tried: it is kept"
    if best is default:
        return f"the default won the search, of {len(result.trials):,} trials: it is kept"
    number = result.trials.index(best)
    lines = [
        f"trial {number} won the search, of {len(result.trials):,} trials: "
        f"{metric_name(result.metric)} {_percent(best.score)} on {result.num_validation:,} "
        f"held-out rows, the default {_percent(default.score)}"
    ]
    if compared is not None:
        lines.append(
            f"on {compared.num_rows:,} other held-out rows "
            f"({pluralize(compared.num_folds, 'fold')}): {_percent(compared.score)}, the default "
            f"{_percent(compared.default_score)}"
        )
        lines.append(
            f"difference {100 * compared.difference:+z.2f} points, standard error "
            f"{100 * compared.standard_error:.2f}, paired over these rows"
        )
    if not default.valid:
        lines.append(f"the default is too large: trial {number} is trained")
    elif compared is None:
        lines.append("the comparison was interrupted: the default is kept")
    elif compared.is_better:
        lines.append(
            f"better than the default by more than one standard error: trial {number} is trained"
        )
    else:
        lines.append("not better than the default by more than one standard error: it is kept")
    return "\n".join(lines)


def trials_table(result: TuningResult) -> Table:
    """Make a table of the best trials and the default, the best first."""
    ranked = ranked_trials(result)
    shown = [item for k, item in enumerate(ranked) if k < _MAX_ROWS or item[0] == 0]
    title = "settings"
    if len(shown) < len(ranked):
        title = f"the best {_MAX_ROWS} of {len(ranked):,} settings"
    metric = metric_name(result.metric)
    title = f"{title}, by {metric} on {result.num_validation:,} held-out rows"
    columns = ["trial", "%", "s", "MB", "d_model", "n-grams", "min count", "rate", "epochs"]
    cells = [
        [
            "default" if number == 0 else str(number),
            "nan" if isnan(trial.score) else f"{100 * trial.score:.2f}",
            f"{trial.seconds:.1f}",
            f"{trial.size_mb:.1f}",
            str(trial.config["d_model"]),
            f"{trial.config['max_ngrams']:,}",
            str(trial.config["min_count"]),
            f"{trial.config['learning_rate']:.4g}",
            str(trial.config["epochs"]),
            f"{trial.config['label_smoothing']:.3g}",
        ]
        for number, trial in shown
    ]
    return make_table(title, [*columns, "smoothing"], cells)


def to_json(result: TuningResult) -> dict[str, Any]:
    """Return the outcome as JSON values; trials are in the order in which they were run."""
    compared = result.comparison
    return {
        "metric": result.metric,
        "validation_rows": result.num_validation,
        "best_trial": result.trials.index(result.best_trial),
        "selected_trial": result.trials.index(result.selected_trial),
        "comparison": None
        if compared is None
        else {**vars(compared), "is_better": compared.is_better},
        "arguments": result.arguments,
        "trials": [
            {**vars(trial), "score": None if isnan(trial.score) else trial.score}
            for trial in result.trials
        ],
    }


def _percent(score: float) -> str:
    return f"{100 * score:.2f} %"
