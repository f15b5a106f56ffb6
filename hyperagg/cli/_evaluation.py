"""Print how the predictions of a model compare with known labels or values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from typing import TYPE_CHECKING

from hyperagg._common.metrics import metric_name
from hyperagg._common.terminal import echo

if TYPE_CHECKING:
    from hyperagg._common.evaluation import Evaluation
    from hyperagg._common.label_decoder import Label
    from hyperagg._common.regression import RegressionEvaluation

__all__ = ["print_evaluation", "print_regression", "unknown_labels_note"]

_MAX_CLASSES = 20
_NUM_PAIRS, _NUM_ROWS = 5, 5
_MAX_CHARACTERS = 70


def print_evaluation(
    evaluation: Evaluation, row_name: Callable[[int], str], texts: Sequence[str] | None = None
) -> None:
    """Print the metrics, the scores of each label, and the most frequent and worst errors.

    Args:
        evaluation: the predictions and the labels.
        row_name: returns where a row is from.
        texts: the texts of the rows, if they have one.
    """
    echo(f"{'rows':26}  {len(evaluation.truth):,}")
    for name, value in evaluation.metrics.items():
        echo(f"{metric_name(name):26}  {100 * value:.2f} %")
    scores = evaluation.class_scores()
    shown = sorted(scores, key=lambda own: own.f1)[:_MAX_CLASSES]
    kept = [own for own in scores if own in shown]  # in the order of the labels
    width = min(_MAX_CHARACTERS, max(26, *(len(str(own.label)) for own in kept)))
    echo(f"\n{'label':{width}}  precision   recall       F1     rows")
    for label, precision, recall, f1, rows in kept:
        numbers = "".join(f"{100 * score:7.1f} %" for score in (precision, recall, f1))
        echo(f"{_shorten(str(label)):{width}}  {numbers}  {rows:7,}")
    if len(scores) > len(kept):
        echo(f"and {len(scores) - len(kept):,} labels with a higher F1")
    pairs = [] if evaluation.decoder.multi_label else evaluation.confused_pairs(_NUM_PAIRS)
    if pairs:
        echo("\nmost frequent errors")
    for pair in pairs:
        echo(
            f"{pair.rows:9,}  {_one_line([pair.label])} predicted as {_one_line([pair.predicted])}"
        )
    worst = evaluation.worst_rows(_NUM_ROWS)
    if worst:
        echo("\nerrors with the highest loss")
    for i in worst:
        true = _one_line(evaluation.true_labels(i))
        predicted = _one_line(evaluation.predicted_labels(i))
        text = f": {_shorten(texts[i])}" if texts is not None else ""
        echo(f"{row_name(i)}: {true} predicted as {predicted}{text}")


def print_regression(evaluation: RegressionEvaluation, row_name: Callable[[int], str]) -> None:
    """Print the metrics with their standard errors, and the rows with the largest errors.

    Args:
        evaluation: the predictions and the true values.
        row_name: returns where a row is from.
    """
    from hyperagg._common.pages.regression import METRICS

    echo(f"{'rows':26}  {len(evaluation.truth):,}")
    errors = evaluation.standard_errors()
    for name, value in evaluation.metrics.items():
        error = "" if isnan(errors[name]) else f" ± {errors[name]:.4f} (standard error)"
        echo(f"{METRICS[name]:26}  {value:z.4f}{error}")
    echo("\nrows with the largest errors")
    for i in evaluation.worst_rows(_NUM_ROWS):
        echo(f"{row_name(i)}: {evaluation.truth[i]:.6g} predicted as {evaluation.predicted[i]:.6g}")


def unknown_labels_note(evaluation: Evaluation) -> str | None:
    """Return a sentence about the labels that the classifier does not have, if there are any."""
    unknown = evaluation.unknown_labels
    if not unknown:
        return None
    listed = ", ".join(f"{str(label)!r}" for label in list(unknown)[:5])
    more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
    rows = int(evaluation.truth[:, len(evaluation.decoder.classes) :].any(1).sum())
    return (
        f"{rows:,} of {len(evaluation.truth):,} rows have labels that did not occur in training, "
        f"which count as errors: {listed}{more}"
    )


def _one_line(labels: Sequence[Label]) -> str:
    return _shorten(", ".join(map(str, labels))) or "no label"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 3]}..."
