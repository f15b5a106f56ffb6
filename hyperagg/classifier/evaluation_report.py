"""Writes the page of an evaluation, with the words behind the worst errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hyperagg._common.evaluation import Evaluation
from hyperagg._common.label_decoder import Label
from hyperagg._common.pages import evaluation as pages
from hyperagg._common.pages.explanations import ExplainedRow
from hyperagg.classifier.explanation_report import explained_row
from hyperagg.classifier.predictor import Predictor

__all__ = ["evaluation_page"]

_NUM_ROWS = 20
_MAX_LABELS = 4  # that are explained of a row


def evaluation_page(
    predictor: Predictor,
    evaluation: Evaluation,
    texts: Sequence[str],
    title: str,
    *,
    row_name: Callable[[int], str] = lambda i: f"row {i + 1}",
    notes: Sequence[str] = (),
) -> str:
    """Return a page of one file, without scripts: the scores of each label, the confusion matrix,
    the reliability diagram, and the words behind the errors with the highest losses.

    Args:
        predictor: the classifier.
        evaluation: from `TextClassifier.evaluation`.
        texts: the texts of the evaluation.
        title: the title of the page.
        row_name: returns where a row is from, such as "reviews.csv: line 7".
        notes: sentences that precede the scores.

    Raises:
        ValueError: the number of texts is not that of the evaluation.

    Example:
        >>> from hyperagg import TextClassifier
        >>> texts, labels = ["good film", "bad film"] * 20, ["yes", "no"] * 20
        >>> clf = TextClassifier().fit(texts, labels)
        >>> found = clf.evaluation(texts, labels)
        >>> "<title>Films" in evaluation_page(clf.predictor, found, texts, "Films")
        True
    """
    if len(texts) != len(evaluation.truth):
        raise ValueError(
            f"texts: expected the {len(evaluation.truth):,} of the evaluation, got {len(texts):,}"
        )
    rows = [
        _explained(predictor, evaluation, texts[i], i, row_name(i))
        for i in evaluation.worst_rows(_NUM_ROWS)
    ]
    return pages.evaluation_page(title, evaluation, rows, notes)


def _explained(
    predictor: Predictor, evaluation: Evaluation, text: str, i: int, name: str
) -> ExplainedRow:
    predicted, true = evaluation.predicted_labels(i), evaluation.true_labels(i)
    if predictor.model.tree is not None:  # its logits are not sums over tokens
        return pages.unexplained_row(evaluation, i, name, text)
    labels: list[Label | tuple[Label, Label]]
    if predictor.multi_label_:
        labels = [label for label in (*predicted, *true) if (label in predicted) != (label in true)]
        return explained_row(predictor.explain(text), name, true, labels[:_MAX_LABELS])
    labels = [*predicted, *true, (predicted[0], true[0])]
    return explained_row(predictor.explain(text), name, true, labels)
