"""Shows how the predictions of a classifier compare with known labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperagg._common.evaluation import Evaluation
from hyperagg._common.metrics import metric_name
from hyperagg._common.pages.document import escape, html_document, html_table
from hyperagg._common.pages.explanations import ExplainedRow, rows_html

__all__ = ["evaluation_page", "unexplained_row"]

_MAX_CLASSES = 25  # of the confusion matrix
_SHARES = (0.005, 0.02, 0.1, 0.3)  # of the rows of a label, at which the color changes
_LEFT, _SIZE = 46, 240  # of the diagram


def evaluation_page(
    title: str, evaluation: Evaluation, worst: Sequence[ExplainedRow], notes: Sequence[str] = ()
) -> str:
    """Return a page with the scores of each label, the confusion matrix and most frequent errors of
    a single-label problem, the reliability diagram, and rows that were predicted wrongly.

    Args:
        title: the title of the page.
        evaluation: the predictions and the labels.
        worst: the rows to show.
        notes: sentences that precede the scores.
    """
    sections = [
        *(f"<p>{escape(note)}</p>" for note in notes),
        _metrics(evaluation),
        _class_scores(evaluation),
    ]
    if not evaluation.decoder.multi_label:
        sections += [_confused_pairs(evaluation), _confusion_matrix(evaluation)]
    sections.append(_reliability(evaluation))
    sections.append(
        f"<h2>Errors with the highest loss</h2>{rows_html(worst)}"
        if worst
        else "<h2>Errors</h2><p>All rows with labels of the classifier are predicted correctly.</p>"
    )
    return html_document(title, "\n".join(sections))


def unexplained_row(evaluation: Evaluation, i: int, name: str, text: str = "") -> ExplainedRow:
    """Return what a page shows of a row of a model that cannot explain it."""
    predicted, true = (
        ", ".join(map(str, labels)) or "none of the labels"
        for labels in (evaluation.predicted_labels(i), evaluation.true_labels(i))
    )
    shown = f"; text: {text}" if text else ""
    return ExplainedRow(name, f"predicted: {predicted}; true: {true}{shown}", [])


def _metrics(evaluation: Evaluation) -> str:
    rows = [
        [metric_name(name), f"{100 * value:.2f} %"] for name, value in evaluation.metrics.items()
    ]
    rows.append(["rows", f"{len(evaluation.truth):,}"])
    return html_table(["metric", "value"], rows)


def _class_scores(evaluation: Evaluation) -> str:
    rows = [
        [
            str(label),
            *(f"{100 * score:.1f} %" for score in (precision, recall, f1)),
            f"{number:,}",
        ]
        for label, precision, recall, f1, number in evaluation.class_scores()
    ]
    return "<h2>Labels</h2>" + html_table(["label", "precision", "recall", "F1", "rows"], rows)


def _confused_pairs(evaluation: Evaluation) -> str:
    pairs = evaluation.confused_pairs()
    if not pairs:
        return ""
    rows = [[str(pair.label), str(pair.predicted), f"{pair.rows:,}"] for pair in pairs]
    table = html_table(["label", "predicted", "rows"], rows)
    return f'<h2>Most frequent errors</h2><div class="pairs">{table}</div>'


def _confusion_matrix(evaluation: Evaluation) -> str:
    true, predicted, counts = evaluation.confusion
    number = len(evaluation.classes)
    wrong = true != predicted
    errors = np.bincount(true[wrong], counts[wrong], number)
    errors += np.bincount(predicted[wrong], counts[wrong], number)
    shown, note = list(range(number)), ""
    if number > _MAX_CLASSES:
        shown = np.sort(np.argsort(-errors, kind="stable")[:_MAX_CLASSES]).tolist()
        note = f" Of {number:,} labels, it has the {_MAX_CLASSES} with the most errors."
    names = [f"<bdi>{escape(str(evaluation.classes[c]))}</bdi>" for c in shown]
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    count_of = {(i, j): n for i, j, n in zip(true.tolist(), predicted.tolist(), counts.tolist())}
    totals = np.bincount(true, counts, number)
    lines = []
    for i, name in zip(shown, names):
        row = [(j, count_of.get((i, j), 0)) for j in shown]
        cells = "".join(_cell(n, n / max(1, totals[i]), i == j) for j, n in row)
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        "<h2>Confusion matrix</h2><p>Rows are labels, columns are predictions; the color is the "
        f"share of the row.{note}</p>"
        f'<div class="scroll"><table class="matrix"><tr><th></th>{head}</tr>\n'
        + "\n".join(lines)
        + "\n</table></div>"
    )


def _cell(count: int, share: float, right: bool) -> str:
    step = sum(share >= border for border in _SHARES)
    color = f' class="{"against" if right else "for"}-{step}"' if step else ""
    return f"<td{color}>{count or ''}</td>"


def _reliability(evaluation: Evaluation) -> str:
    bins = evaluation.reliability()
    used = bins.counts > 0
    counts = bins.counts[used]
    means, correct = bins.probabilities[used] / counts, bins.correct[used] / counts
    circles = "".join(
        f'<circle cx="{_LEFT + _SIZE * x:.1f}" cy="{10 + _SIZE * (1 - y):.1f}" '
        f'r="{3 + 9 * (n / counts.max()) ** 0.5:.1f}"><title>{n:,} predictions with a mean '
        f"probability of {100 * x:.1f} %: {100 * y:.1f} % correct</title></circle>"
        for x, y, n in zip(means, correct, counts)
    )
    ticks = "".join(
        f'<text x="{_LEFT + _SIZE * t / 4:.0f}" y="{_SIZE + 28}" text-anchor="middle">'
        f'{25 * t} %</text><text x="{_LEFT - 6}" y="{14 + _SIZE * (1 - t / 4):.0f}" '
        f'text-anchor="end">{25 * t} %</text>'
        for t in range(5)
    )
    rows = [
        [f"{100 * x:.1f} %", f"{100 * y:.1f} %", f"{n:,}"]
        for x, y, n in zip(means, correct, counts)
    ]
    table = html_table(["mean probability", "correct", "predictions"], rows)
    return (
        "<h2>Reliability</h2><p>How often predictions of a probability (across) are correct (up). "
        "The predictions of a calibrated classifier lie on the diagonal; larger circles stand for "
        "more predictions.</p>"
        f'<svg class="diagram" viewBox="0 -4 {_LEFT + _SIZE + 24} {_SIZE + 40}" role="img" '
        'aria-label="Reliability diagram; its numbers are in the table below">'
        f'<rect x="{_LEFT}" y="10" width="{_SIZE}" height="{_SIZE}"/>'
        f'<line x1="{_LEFT}" y1="{10 + _SIZE}" x2="{_LEFT + _SIZE}" y2="10"/>'
        f"{circles}{ticks}</svg>"
        f"<details><summary>The same as numbers</summary>{table}</details>"
    )
