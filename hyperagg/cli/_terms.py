"""Tokens, and the terms of a sum, in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

__all__ = ["list_terms", "list_tokens"]


def list_terms(terms: Sequence[tuple[str, float]], limit: int) -> str:
    """List the first terms, and the sum of the others.

    >>> list_terms([("good", 1.5), ("not", -0.5), ("a", 0.25), ("the", -0.5)], 2)
    'good +1.50, not -0.50, 2 others -0.25'
    """
    shown = [f"{_quoted(name)} {value:+z.2f}" for name, value in terms[:limit]]
    others = [value for _, value in terms[limit:]]
    if others:
        noun = "other" if len(others) == 1 else "others"
        shown.append(f"{len(others):,} {noun} {sum(others):+z.2f}")
    return ", ".join(shown)


def list_tokens(tokens: Iterable[str]) -> str:
    """List tokens, some of which are commas.

    >>> list_tokens(["good", "very good", ",", ", but"])
    'good, very good, ",", ", but"'
    """
    return ", ".join(map(_quoted, tokens))


def _quoted(name: str) -> str:
    """Quote, as in JSON, what could be mistaken for another part of a list."""
    if name == name.strip() != "" and "," not in name and '"' not in name and name.isprintable():
        return name
    return json.dumps(name, ensure_ascii=False)
