"""Explanations for people: coloured text in a terminal, and a page of HTML whole in one file.

Red speaks for a class, blue against it; the strongest token of a text has the full colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

import numpy as np
from rich.text import Text

from hyperagg.classifier.explanation import Explanation

__all__ = ["coloured", "html_page"]

_FOR, _AGAINST = (209, 73, 91), (48, 99, 142)


def coloured(explanation: Explanation, label: str | int | None = None) -> Text:
    """The text with its tokens coloured by what they add to a class's logit.

    Args:
        explanation: of the text.
        label: the class; None: the most probable one.
    """
    shares, out = _shares(explanation, label), Text()
    for piece, token in _pieces(explanation):
        style = ""
        if token is not None:
            # On a dark ground: from black to the colour.
            red, green, blue = (round(abs(shares[token]) * c) for c in _colour(shares[token]))
            style = f"white on rgb({red},{green},{blue})"
        out.append(piece, style=style)
    return out


def html_page(explanations: Iterable[Explanation], title: str) -> str:
    """A page with every text, coloured for its most probable class; a token's numbers show when it
    is pointed at."""
    sections = []
    for e in explanations:
        best = np.argsort(-e.logits)[:3]
        ranks = ", ".join(f"{escape(str(e.classes_[c]))} {e.probabilities[c]:.1%}" for c in best)
        sections.append(f"<section><h2>{ranks}</h2><p>{_html(e, best)}</p></section>")
    rgb_for, rgb_against = (", ".join(map(str, each)) for each in (_FOR, _AGAINST))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<style>
body {{ font: 16px/1.7 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto }}
h2 {{ font-size: 1rem; margin-bottom: 0 }}
section p {{ white-space: pre-wrap; overflow-wrap: anywhere; margin-top: .3rem }}
span {{ border-radius: .2em; padding: .1em 0 }}
</style>
<h1>{escape(title)}</h1>
<p>What each token adds to the logit of the most probable class:
<span style="background: rgba({rgb_for}, .7)">for it</span>,
<span style="background: rgba({rgb_against}, .7)">against it</span>.</p>
{"".join(sections)}
</html>
"""


def _html(e: Explanation, best: np.ndarray) -> str:
    shares, out = _shares(e, None), []
    for piece, token in _pieces(e):
        if token is None:
            out.append(escape(piece))
            continue
        told = ", ".join(f"{e.classes_[c]} {e.contributions[token, c]:+.3f}" for c in best)
        colour = ", ".join(map(str, _colour(shares[token])))
        out.append(
            f'<span title="{escape(told)}" style="background: rgba({colour}, '
            f'{abs(shares[token]):.2f})">{escape(piece)}</span>'
        )
    return "".join(out)


def _shares(e: Explanation, label: str | int | None) -> np.ndarray:
    """(T,) from -1 to 1: the contributions over the greatest of them."""
    parts = e.for_label(e.label if label is None else label)
    return parts / max(np.abs(parts).max(initial=0), 1e-12)


def _colour(share: float) -> tuple[int, int, int]:
    return _FOR if share > 0 else _AGAINST


def _pieces(e: Explanation) -> Iterator[tuple[str, int | None]]:
    """The whole text in order: tokens with their numbers, and what stands between them."""
    done = 0
    for token, (begin, end) in enumerate(e.spans):
        if begin > done:
            yield e.text[done:begin], None
        yield e.text[max(begin, done) : end], token
        done = max(done, end)
    yield e.text[done:], None
