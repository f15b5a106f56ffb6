"""Formats explanations for people: colored text in a terminal, and a self-contained HTML page.

Red marks words that speak for a class, blue words that speak against it. The word of a text with
the largest absolute contribution has the full color.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from hyperagg.classifier.explanation import Explanation

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["colored_text", "html_page"]

_POSITIVE, _NEGATIVE = (209, 73, 91), (48, 99, 142)


def colored_text(explanation: Explanation, label: str | int | None = None) -> Text:
    """Return the text with its words colored by their contributions to one class.

    Args:
        explanation: from `TextClassifier.explain`.
        label: the class; None: the most probable one.

    Raises:
        ValueError: the classifier does not have this label.
    """
    from rich.text import Text

    strengths, out = _strengths(explanation, label), Text()
    for piece, token in _pieces(explanation):
        style = ""
        if token is not None:
            # On a dark background, from black to the full color.
            color = _color(strengths[token])
            red, green, blue = (round(abs(strengths[token]) * channel) for channel in color)
            style = f"white on rgb({red},{green},{blue})"
        out.append(piece, style=style)
    return out


def html_page(explanations: Iterable[Explanation], title: str) -> str:
    """Return a page with every text, its words colored by their contributions to the most probable
    class; the contributions to the three most probable classes are shown on hover.

    Args:
        explanations: from `TextClassifier.explain`.
        title: the title of the page.
    """
    sections = []
    for e in explanations:
        best = np.argsort(-e.logits)[:3]
        ranks = ", ".join(f"{escape(str(e.classes_[c]))} {e.probabilities[c]:.1%}" for c in best)
        sections.append(f"<section><h2>{ranks}</h2><p>{_html(e, best)}</p></section>")
    positive, negative = (", ".join(map(str, color)) for color in (_POSITIVE, _NEGATIVE))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<style>
body {{ font: 16px/1.7 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto }}
h2 {{ font-size: 1rem; margin-bottom: 0 }}
section p {{ white-space: pre-wrap; overflow-wrap: anywhere; margin-top: .3rem }}
span {{ border-radius: .2em; padding: .1em 0 }}
</style>
<h1>{escape(title)}</h1>
<p>The contribution of each word to the logit of the most probable class:
<span style="background: rgba({positive}, .7)">positive</span>,
<span style="background: rgba({negative}, .7)">negative</span>.</p>
{"".join(sections)}
</html>
"""


def _html(e: Explanation, best: np.ndarray) -> str:
    strengths, out = _strengths(e, None), []
    for piece, token in _pieces(e):
        if token is None:
            out.append(escape(piece))
            continue
        title = ", ".join(f"{e.classes_[c]} {e.contributions[token, c]:+.3f}" for c in best)
        color = ", ".join(map(str, _color(strengths[token])))
        out.append(
            f'<span title="{escape(title)}" style="background: rgba({color}, '
            f'{abs(strengths[token]):.2f})">{escape(piece)}</span>'
        )
    return "".join(out)


def _strengths(e: Explanation, label: str | int | None) -> np.ndarray:
    """(T,) from -1 to 1: the contributions divided by the largest absolute one."""
    contributions = e.for_label(e.label if label is None else label)
    return contributions / max(np.abs(contributions).max(initial=0), 1e-12)


def _color(strength: float) -> tuple[int, int, int]:
    return _POSITIVE if strength > 0 else _NEGATIVE


def _pieces(e: Explanation) -> Iterator[tuple[str, int | None]]:
    """The whole text in order: words with their index, and the characters between them."""
    position = 0
    for token, (begin, end) in enumerate(e.spans):
        if begin > position:
            yield e.text[position:begin], None
        yield e.text[max(begin, position) : end], token
        position = max(position, end)
    yield e.text[position:], None
