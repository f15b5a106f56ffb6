"""Shows explanations of rows as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hyperagg._common.calibration import softmax
from hyperagg._common.pages import explanations as pages
from hyperagg._common.pages.explanations import ExplainedRow, LabelView, running_text
from hyperagg.multimodal.explanation import Explanation

__all__ = ["explained_row", "explanation_page"]

_NUM_LABELS = 3  # labels that are explained
_MAX_TOKENS = 40  # of a column, those with the largest absolute contributions


def explanation_page(
    explanations: Iterable[Explanation],
    title: str,
    *,
    names: Iterable[str] | None = None,
    targets: Iterable[Any] | None = None,
    labels: Sequence[Any] = (),
    unit: float = 1.0,
) -> str:
    """Return a page that shows what the columns of rows and their tokens contribute.

    The page is one file without scripts and needs no network.

    Args:
        explanations: from `MultimodalClassifier.explain` or `MultimodalRegressor.explain`.
        title: the title of the page.
        names: where the rows are from.
        targets: the true label or value of each row, or None if it is not known.
        labels: the labels to explain (default: the three most probable ones and the true one).
        unit: what counts as 1 in the scale of colors; for a regressor, the standard deviation of
            the target.

    Raises:
        ValueError: the model does not have one of the labels.
    """
    explanations = list(explanations)
    given = zip(
        explanations,
        pages.one_per_row("names", names, len(explanations), ""),
        pages.one_per_row("targets", targets, len(explanations), None),
    )
    is_value = any(each.is_value for each in explanations)
    output = "the predicted value" if is_value else "the chosen label"
    rows = [explained_row(*one, labels) for one in given]
    return pages.explanation_page(title, rows, unit, output)


def explained_row(
    explanation: Explanation, name: str = "", target: Any = None, labels: Sequence[Any] = ()
) -> ExplainedRow:
    """Return what a page shows of a row; see `explanation_page`."""
    e = explanation
    known = "" if target is None else f"; true: {target}"
    if e.is_value:
        value = f"{e.logits[0]:.6g}"
        return ExplainedRow(name, f"predicted: {value}{known}", [_view(e, 0, "the value")])
    columns = [e.classes.index(label) for label in labels] or _interesting(e, target)
    shares = softmax(e.logits.astype(np.float64))
    views = [_view(e, c, f"{e.classes[c]} {shares[c]:.1%}") for c in columns]
    return ExplainedRow(name, f"predicted: {e.label}{known}", views)


def _interesting(e: Explanation, target: Any) -> list[int]:
    columns = np.argsort(-e.logits, kind="stable")[:_NUM_LABELS].tolist()
    if target in e.classes:
        columns.append(e.classes.index(target))
    return list(dict.fromkeys(columns))


def _view(e: Explanation, c: int, name: str) -> LabelView:
    parts = [(column, _pieces(e, column, c)) for column, tokens in e.tokens.items() if tokens]
    terms = [(column, float(sums[c])) for column, sums in e.by_modality().items()]
    return LabelView(name, parts, terms, float(e.bias[c]), float(e.logits[c]))


def _pieces(e: Explanation, column: str, c: int) -> list[tuple[str, float | None]]:
    """A text as it stands; of other columns the names of the strongest tokens."""
    if column in e.texts:
        text = e.texts[column]
        return list(running_text(text.text, text.spans, text.contributions[:, c]))
    tokens, values = e.tokens[column], e.contributions[column][:, c]
    strongest = np.sort(np.argsort(-np.abs(values), kind="stable")[:_MAX_TOKENS])
    pieces: list[tuple[str, float | None]] = []
    for k in strongest.tolist():
        pieces += [(tokens[k], float(values[k])), (" ", None)]
    return pieces
