"""Compares the figures that pages quote with the results.json files that they are from.

In a page the name of a figure follows its number, in a comment that readers do not see, and a
comment at the end of the page says where the named figures are from:

    reaches the accuracy 10.7<!-- reached --> times as fast

    <!-- figures
    reached = results/text#/seconds/fastText / #/seconds/hyperagg
    -->

"results/text" is the folder of a results.json file and "/seconds/fastText" a JSON pointer (RFC
6901) into it. A list of numbers, which may be nested, stands for its median; "mean of", "deviation
of" (the sample standard deviation), "lowest of" and "highest of" before the folder select another
statistic. Operators may follow, each with a number or a second pointer into the same file; they
apply from left to right:

    accuracy = mean of results/r52#/models/words/accuracy * 100
    gated-lower = results/lm#/models/gated/perplexity % below #/models/attention/perplexity
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

__all__ = [
    "Quote",
    "correct_page",
    "find_mistakes",
    "find_quotes",
    "pages_of",
    "value_at",
]

# Not in code, where a page explains it.
_QUOTE = re.compile(r"(?<![`\w.,])(?P<number>-?\d[\d,]*(?:\.\d+)?)<!-- (?P<name>[a-z0-9-]+) -->")
_BLOCK = re.compile(r"^<!-- figures\n(.*?)^-->", re.DOTALL | re.MULTILINE)
_DEFINITION = re.compile(
    r"(?P<name>[a-z0-9-]+) = (?:(?P<statistic>mean|deviation|lowest|highest) of )?"
    r"(?P<folder>results/[\w./-]+)#(?P<formula>/.*)"
)
# Keys may contain spaces and signs, so an operand has to be a pointer or a number.
_OPERATION = re.compile(r" (\*|/|-|% below|% above) (?=#/|[\d.]+(?: |$))")

_STATISTICS: dict[str | None, Callable[[Sequence[float]], float]] = {
    None: median,
    "mean": fmean,
    "deviation": stdev,
    "lowest": min,
    "highest": max,
}
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "*": operator.mul,
    "/": operator.truediv,
    "-": operator.sub,
    "% below": lambda value, other: 100 * (1 - value / other),
    "% above": lambda value, other: 100 * (value / other - 1),
}


@dataclass(frozen=True)
class Quote:
    """A number on a page.

    Args:
        line: its line, from 1.
        source: where it is from, as its definition says; or what is wrong with that.
        shown: the number on the page.
        expected: the number in the file, with as many decimals; None if the file has none there.
    """

    line: int
    source: str
    shown: str
    expected: str | None

    @property
    def is_correct(self) -> bool:
        """Whether the page shows what the file has."""
        return self.shown == self.expected


def find_quotes(text: str, root: Path) -> list[Quote]:
    """Return the numbers of a page that name their source.

    Args:
        text: the page.
        root: the folder that "results/" is in.
    """
    definitions = _definitions(text)
    found = []
    for match in _QUOTE.finditer(text):
        line, definition = text.count("\n", 0, match.start()) + 1, definitions.get(match["name"])
        source = f"{match['name']}, which is not defined"
        if definition is not None:
            source = definition.group(0)
        found.append(Quote(line, source, match["number"], _expected(match, definition, root)))
    return found


def correct_page(text: str, root: Path) -> str:
    """Return a page with the numbers of the files; those without a source stay as they are."""

    definitions = _definitions(text)

    def number(match: re.Match[str]) -> str:
        comment = match.group(0)[len(match["number"]) :]
        expected = _expected(match, definitions.get(match["name"]), root)
        return f"{expected or match['number']}{comment}"

    return _QUOTE.sub(number, text)


def pages_of(root: Path) -> Iterator[Path]:
    """Yield the README and the pages of docs/."""
    yield root / "README.md"
    yield from sorted((root / "docs").rglob("*.md"))


def value_at(results: Any, pointer: str, statistic: str | None = None) -> float:
    """Return the number at a JSON pointer, or a statistic of the numbers there.

    Args:
        results: the content of a file.
        pointer: where the number is.
        statistic: "mean", "deviation", "lowest" or "highest"; None for the median.

    Raises:
        KeyError: the file does not have a number there.
    """
    found = results
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (IndexError, KeyError, TypeError, ValueError):
            raise KeyError(pointer) from None
    numbers = list(_flatten(found))
    if not numbers or not all(_is_number(each) for each in numbers):
        raise KeyError(pointer)
    return float(_STATISTICS[statistic](numbers))


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _flatten(each)
    else:
        yield value


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _definitions(text: str) -> dict[str, re.Match[str]]:
    found = map(_DEFINITION.fullmatch, _lines_of_blocks(text))
    return {match["name"]: match for match in found if match is not None}


def _lines_of_blocks(text: str) -> list[str]:
    return [line for block in _BLOCK.findall(text) for line in block.splitlines()]


def find_mistakes(text: str) -> list[str]:
    """Return what is wrong with the definitions of a page, and with the comments that name them:
    a figure that is not seen would never be compared."""
    found, defined = [], []
    for line in _lines_of_blocks(text):
        match = _DEFINITION.fullmatch(line)
        if match is None:
            found.append(f"{line!r}: expected NAME = results/FOLDER#/POINTER")
        elif match["name"] in defined:
            found.append(f"{match['name']}: is defined twice")
        else:
            defined.append(match["name"])
    names = [match["name"] for match in _QUOTE.finditer(text)]
    for name in defined:
        if name not in names:
            found.append(f"{name}: is defined, and follows no number")
        comments = len(re.findall(rf"(?<!`)<!--\s*{name}\s*-->", text, re.IGNORECASE))
        if comments > names.count(name):
            found.append(f"{name}: a comment does not follow a number directly")
    return found


def _expected(quote: re.Match[str], definition: re.Match[str] | None, root: Path) -> str | None:
    if definition is None:
        return None
    try:
        results = json.loads((root / definition["folder"] / "results.json").read_text("utf-8"))
        value = _evaluate(definition, results)
    except (KeyError, OSError, ValueError, ZeroDivisionError, OverflowError):
        return None
    shown = quote["number"]
    decimals = len(shown.partition(".")[2])
    return f"{value:z{',' if ',' in shown or value >= 10_000 else ''}.{decimals}f}"


def _evaluate(definition: re.Match[str], results: Any) -> float:
    pointer, *operations = _OPERATION.split(definition["formula"])
    value = value_at(results, pointer, definition["statistic"])
    for name, operand in zip(operations[::2], operations[1::2]):
        is_pointer = operand.startswith("#")
        other = value_at(results, operand[1:], definition["statistic"]) if is_pointer else operand
        value = _OPERATORS[name](value, float(other))
    if not math.isfinite(value):
        raise ValueError(f"{value}: not a number for a page")
    return value
