"""Formats explanations for people: colored text in a terminal, and pages.

Orange marks words that speak for a label, blue words that speak against it. A color stands for the
same contribution in every text.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperagg._common.label_decoder import Label
from hyperagg._common.pages import explanations as pages
from hyperagg._common.pages.explanations import ExplainedRow, LabelView, color_step, running_text
from hyperagg._common.terminal import for_stream
from hyperagg.classifier.explanation import Explanation

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["colored_text", "explained_row", "explanation_page", "strongest_terms"]

# By the number of the color, 1 to 4: white letters on a dark background.
_FOR = ("#402713", "#653a15", "#824610", "#a0540b")
_AGAINST = ("#172c42", "#1b4268", "#1b5285", "#1c66a8")
_NUM_LABELS = 3  # labels that are explained unless others are named


def colored_text(
    explanation: Explanation, label: Label | tuple[Label, Label] | None = None
) -> Text:
    """Return the text with its words colored by their contributions to one label.

    Args:
        explanation: from `TextClassifier.explain`.
        label: the label (default: the most probable one), or a pair, to show what speaks for the
            first rather than the second.

    Raises:
        ValueError: the classifier does not have this label.
    """
    from rich.text import Text

    weights, out = _weights(explanation, label), Text()
    values = explanation.contributions @ weights
    for piece, value in running_text(explanation.text, explanation.spans, values):
        step = 0 if value is None else color_step(value)
        colors = _FOR if step > 0 else _AGAINST
        style = f"white on {colors[abs(step) - 1]}" if step else ""
        out.append(for_stream(piece, sys.stdout), style=style)
    return out


def strongest_terms(
    explanation: Explanation, label: Label | tuple[Label, Label] | None = None
) -> list[tuple[str, float]]:
    """Return the words and n-grams of a text with their contributions to one label, the largest
    absolute one first; those that differ only in case are added up.

    Args:
        explanation, label: as for `colored_text`.
    """
    values = explanation.feature_contributions @ _weights(explanation, label)
    sums: Counter[str] = Counter()
    for (begin, end), value in zip(explanation.feature_spans, values.tolist()):
        sums[explanation.text[begin:end].lower()] += value
    return sorted(sums.items(), key=lambda term: -abs(term[1]))


def explanation_page(
    explanations: Iterable[Explanation],
    title: str,
    *,
    names: Iterable[str] | None = None,
    true_labels: Iterable[Label | Sequence[Label] | None] | None = None,
    labels: Sequence[Label | tuple[Label, Label]] = (),
) -> str:
    """Return a page that shows what the words of texts contribute.

    The page is one file without scripts and needs no network.

    Args:
        explanations: from `TextClassifier.explain`.
        title: the title of the page.
        names: where the texts are from, such as "reviews.csv: line 7".
        true_labels: the true label of each text, or several of them, or None if it is not known.
        labels: the labels to explain, or pairs of labels (default: the three most probable ones and
            the true one).

    Raises:
        ValueError: the classifier does not have one of the labels, there are more than six, or the
            lengths differ.

    Example:
        >>> from hyperagg import TextClassifier
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> page = explanation_page([clf.explain("a good one")], "One review")
        >>> page.count("<article>")
        1
    """
    explanations = list(explanations)
    return pages.explanation_page(
        title,
        [
            explained_row(*one, labels)
            for one in zip(
                explanations,
                pages.one_per_row("names", names, len(explanations), ""),
                pages.one_per_row("true_labels", true_labels, len(explanations), None),
            )
        ],
    )


def explained_row(
    explanation: Explanation,
    name: str = "",
    true_label: Label | Sequence[Label] | None = None,
    labels: Sequence[Label | tuple[Label, Label]] = (),
) -> ExplainedRow:
    """Return what a page shows of a text; see `explanation_page`."""
    e = explanation
    known: Any = true_label
    if true_label is not None and (
        isinstance(true_label, str) or not isinstance(true_label, Iterable)
    ):
        known = [true_label]
    if not labels:
        most_probable = [e.classes_[c] for c in np.argsort(-e.logits, kind="stable")[:_NUM_LABELS]]
        true = [label for label in known or [] if label in e.classes_]
        labels = list(dict.fromkeys([*most_probable, *true]))[: pages.MAX_VIEWS]
    if len(labels) > pages.MAX_VIEWS:
        raise ValueError(f"labels: expected at most {pages.MAX_VIEWS}, got {len(labels)}")
    predicted = ", ".join(map(str, _predicted(e))) or "none of the labels"
    verdict = f"predicted: {predicted}"
    if known is not None:
        verdict += f"; true: {', '.join(map(str, known)) or 'none of the labels'}"
    return ExplainedRow(name, verdict, [_view(e, label) for label in labels])


def _predicted(e: Explanation) -> list[Label]:
    return [e.classes_[c] for c in np.flatnonzero(e.decoder.decide(e.logits[None])[0])]


def _view(e: Explanation, label: Label | tuple[Label, Label]) -> LabelView:
    weights = _weights(e, label)
    if isinstance(label, tuple):
        name = f"{label[0]} rather than {label[1]}"
    else:
        name = f"{label} {e.probabilities[e.column(label)]:.1%}"
    values = e.contributions @ weights
    return LabelView(
        name,
        [("", list(running_text(e.text, e.spans, values)))],
        strongest_terms(e, label),
        float(e.bias @ weights),
        float(e.logits @ weights),
    )


def _weights(e: Explanation, label: Label | tuple[Label, Label] | None) -> np.ndarray:
    """(C,) the weights of the columns whose sum is the value that is explained."""
    weights = np.zeros(len(e.classes_))
    if isinstance(label, tuple):
        first, second = label
        weights[e.column(first)] += 1
        weights[e.column(second)] -= 1
    else:
        weights[e.column(e.label if label is None else label)] = 1
    return weights
