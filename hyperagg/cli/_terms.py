"""The terms of a sum in one line, of which the sum can be checked."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["list_terms"]


def list_terms(terms: Sequence[tuple[str, float]], limit: int) -> str:
    """List the first terms, and the sum of the others.

    >>> list_terms([("good", 1.5), ("not", -0.5), ("a", 0.25), ("the", -0.5)], 2)
    'good +1.50, not -0.50, 2 others -0.25'
    """
    shown = [f"{name} {value:+z.2f}" for name, value in terms[:limit]]
    others = [value for _, value in terms[limit:]]
    if others:
        noun = "other" if len(others) == 1 else "others"
        shown.append(f"{len(others):,} {noun} {sum(others):+z.2f}")
    return ", ".join(shown)
