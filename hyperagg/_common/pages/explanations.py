"""Shows what the tokens of a row contribute to the logits of labels.

All texts of a page have the same scale: a word has the same color wherever its contribution is
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperagg._common.pages.document import escape, html_document

__all__ = [
    "MAX_VIEWS",
    "STEPS",
    "ExplainedRow",
    "LabelView",
    "color_step",
    "explanation_page",
    "one_per_row",
    "rows_html",
    "running_text",
]

# The contributions at which the color changes, in logits.
STEPS = (0.05, 0.15, 0.4, 1.0)
_MAX_TERMS = 12  # that are listed; the others are summed up
_MAX_PIECES = 10_000  # of a text: more would make a page that browsers are slow to show
MAX_VIEWS = 6  # of a row, for which report.css has rules


@dataclass(frozen=True)
class LabelView:
    """What speaks for and against one label of a row.

    Attributes:
        name: the label, with its probability.
        parts: for each column, its name (empty if there is only one) and its content in order:
            pieces of text with their contributions, None for what has none.
        terms: names of tokens or columns with their contributions, which add up to total - bias.
        bias: the logit without any token.
        total: the logit.
    """

    name: str
    parts: Sequence[tuple[str, Sequence[tuple[str, float | None]]]]
    terms: Sequence[tuple[str, float]]
    bias: float
    total: float


@dataclass(frozen=True)
class ExplainedRow:
    """A row with the explanation of one or several labels.

    Attributes:
        name: where the row is, such as "reviews.csv: line 7"; may be empty.
        verdict: the predicted label, and the true one if it is known.
        views: one per label, at most six; none for a row that cannot be explained.
    """

    name: str
    verdict: str
    views: Sequence[LabelView]


def color_step(contribution: float, unit: float = 1.0) -> int:
    """Return the number of the color of a contribution, from -4 (against) to 4 (for).

    Args:
        contribution: to a logit or another output.
        unit: what counts as 1.
    """
    step = sum(abs(contribution) >= border * unit for border in STEPS)
    return step if contribution > 0 else -step


def explanation_page(
    title: str,
    rows: Iterable[ExplainedRow],
    unit: float = 1.0,
    output: str = "the chosen label",
) -> str:
    """Return a page that shows rows.

    Args:
        title: the title of the page.
        rows: the rows.
        unit: what counts as 1 in the scale of colors: 1 for logits, the standard deviation of the
            target for its values.
        output: what is explained, for the legend.
    """
    return html_document(title, rows_html(list(rows), unit, output))


def running_text(
    text: str, spans: Sequence[tuple[int, int]], values: np.ndarray
) -> Iterator[tuple[str, float | None]]:
    """Yield the whole text in order: words with their values, and the characters between them.

    Args:
        text: the text.
        spans: the first character of each word and its last character + 1.
        values: one per word.
    """
    position = 0
    for (begin, end), value in zip(spans, values.tolist(), strict=True):
        if begin > position:
            yield text[position:begin], None
        yield text[max(begin, position) : end], value
        position = max(position, end)
    yield text[position:], None


def one_per_row(name: str, values: Iterable[Any] | None, rows: int, default: Any) -> list[Any]:
    """Return what belongs to each row, `default` for all of them if it is not given.

    Raises:
        ValueError: the number of values is not that of the rows.
    """
    found = [default] * rows if values is None else list(values)
    if len(found) != rows:
        raise ValueError(
            f"{name}: expected {rows:,} values, one per explanation, got {len(found):,}"
        )
    return found


def rows_html(
    rows: Sequence[ExplainedRow], unit: float = 1.0, output: str = "the chosen label"
) -> str:
    """Return the legend and the rows as HTML; see `explanation_page`."""
    largest = max(
        (abs(value) for row in rows for view in row.views for _, value in view.terms), default=1.0
    )
    articles = (_article(index, row, unit, largest or 1.0) for index, row in enumerate(rows))
    return "\n".join([_legend(unit, output), *articles])


def _legend(unit: float, output: str) -> str:
    def swatch(border: float) -> str:
        return f'<span class="{_color_class(border, unit)}">{_signed(border)}</span>'

    borders = [border * unit for border in STEPS]
    against = " ".join(swatch(-border) for border in reversed(borders))
    return (
        f'<p class="legend">Contribution of each word to {output}: against '
        f"{against} {' '.join(map(swatch, borders))} for. The colors mean the same in every text "
        "of this page.</p>"
    )


def _article(index: int, row: ExplainedRow, unit: float, largest: float) -> str:
    choices = views = ""
    for k, view in enumerate(row.views[:MAX_VIEWS]):
        checked = " checked" if k == 0 else ""
        button = f'<input type="radio" name="row-{index}"{checked}>'
        choices += f"<label>{button} <bdi>{escape(view.name)}</bdi></label> "
        views += _view(view, unit, largest)
    heading = f"<h2>{escape(row.name)}</h2>" if row.name else ""
    heading += f"<p><bdi>{escape(row.verdict)}</bdi></p>"
    if not row.views:
        return f"<article>{heading}</article>"
    if len(row.views) == 1:  # there is nothing to choose
        if name := row.views[0].name:
            heading += f'<p class="note">Explained: <bdi>{escape(name)}</bdi></p>'
        return f'<article>{heading}\n<div class="views single">{views}</div></article>'
    return (
        f"<article>{heading}\n<fieldset><legend>Label that is "
        f'explained</legend>{choices}</fieldset>\n<div class="views">{views}</div></article>'
    )


def _view(view: LabelView, unit: float, largest: float) -> str:
    texts = "".join(
        (f"<h3>{escape(name)}</h3>" if name else "")
        + f'<div class="words" dir="auto">{_words(pieces, unit)}</div>'
        for name, pieces in view.parts
    )
    ranked = sorted(view.terms, key=lambda term: -abs(term[1]))
    lines = [_line(name, value, largest) for name, value in ranked[:_MAX_TERMS]]
    others = ranked[_MAX_TERMS:]
    if others:
        lines.append(_note(f"{len(others):,} others", sum(value for _, value in others)))
    lines += [_note("bias", view.bias), _note("sum", view.total)]
    return (
        f'<section class="view"><div class="texts">{texts}</div>'
        f'<table class="terms">{"".join(lines)}</table></section>\n'
    )


def _words(pieces: Sequence[tuple[str, float | None]], unit: float) -> str:
    shown = "".join(_piece(*each, unit) for each in pieces[:_MAX_PIECES])
    if len(pieces) > _MAX_PIECES:
        shown += ' <em class="note">(the rest is not shown, but counted in the sums)</em>'
    return shown


def _piece(text: str, contribution: float | None, unit: float) -> str:
    if contribution is None:
        return escape(text)
    return (
        f'<span class="{_color_class(contribution, unit)}" title="{_signed(contribution)}">'
        f"{escape(text)}</span>"
    )


def _line(name: str, value: float, largest: float) -> str:
    """A row of a table with a bar to the right of the middle, or to the left if it is negative."""
    width = min(100.0, 100 * abs(value) / largest)
    sign = "for" if value > 0 else "against"
    bar = (
        '<svg class="bar" viewBox="-100 0 200 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{sign}" x="{0 if value > 0 else -width:.1f}" y="1" width="{width:.1f}" '
        'height="8"/><line x1="0" y1="0" x2="0" y2="10"/></svg>'
    )
    return (
        f'<tr><th scope="row"><bdi>{escape(name)}</bdi></th><td>{_signed(value)}</td>'
        f"<td>{bar}</td></tr>"
    )


def _note(name: str, value: float) -> str:
    """A row without a bar: a sum may be many times as large as the largest term."""
    return f'<tr class="note"><th scope="row">{name}</th><td>{_signed(value)}</td><td></td></tr>'


def _color_class(contribution: float, unit: float) -> str:
    step = color_step(contribution, unit)
    return f"{'for' if step > 0 else 'against'}-{abs(step)}" if step else "neutral"


def _signed(value: float) -> str:
    shown = f"{value:+z.2f}" if abs(value) < 1000 else f"{value:+z.4g}"
    return shown.replace("-", "\N{MINUS SIGN}")
