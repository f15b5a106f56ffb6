"""Compares the figures that pages quote with the results.json files that they are from.

In a page the name of a figure follows its number, in a comment that readers do not see, and a
comment at the end of the page says where the named figures are from:

    reaches the accuracy 10.7<!-- reached --> times as fast

    <!-- figures
    reached = results/text#/seconds/fastText / #/seconds/hyperagg
    -->

"results/text" is the folder of a results.json file and "/seconds/fastText" a JSON pointer (RFC
6901) into it. A list of numbers stands for its median. A factor or a divisor may follow, which is a
number or a second pointer into the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

__all__ = [
    "Quote",
    "Source",
    "correct_page",
    "find_mistakes",
    "find_quotes",
    "list_sources",
    "pages_of",
    "value_at",
]

# Not in code, where a page explains it.
_QUOTE = re.compile(r"(?<![`\w.,])(?P<number>-?\d[\d,]*(?:\.\d+)?)<!-- (?P<name>[a-z0-9-]+) -->")
_BLOCK = re.compile(r"^<!-- figures\n(.*?)^-->", re.DOTALL | re.MULTILINE)
_DEFINITION = re.compile(
    r"(?P<name>[a-z0-9-]+) = (?P<folder>results/[\w./-]+)#(?P<pointer>/.*?)"
    r"(?: (?P<operator>[*/]) (?P<operand>#/.*|[\d.]+))?"
)


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


@dataclass(frozen=True)
class Source:
    """A results.json file, and what it says about where it comes from; None where it does not."""

    path: Path
    commit: str | None
    processor: str | None
    command: str | None


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


def list_sources(root: Path) -> list[Source]:
    """Return the results.json files below a folder, in order."""
    found = []
    for path in sorted(root.rglob("results.json")):
        environment = json.loads(path.read_text("utf-8")).get("environment", {})
        keys = ("commit", "processor", "command")
        found.append(Source(path, *(environment.get(key) for key in keys)))
    return found


def pages_of(root: Path) -> Iterator[Path]:
    """Yield the README and the pages of docs/."""
    yield root / "README.md"
    yield from sorted((root / "docs").rglob("*.md"))


def value_at(results: Any, pointer: str) -> float:
    """Return the number at a JSON pointer, or the median of the numbers there.

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
    numbers: Sequence[Any] = found if isinstance(found, list) else [found]
    if not numbers or not all(_is_number(each) for each in numbers):
        raise KeyError(pointer)
    return float(median(numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _definitions(text: str) -> dict[str, re.Match[str]]:
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    found = [_DEFINITION.fullmatch(line) for line in lines]
    return {match["name"]: match for match in found if match is not None}


def find_mistakes(text: str) -> list[str]:
    """Return what is wrong with the definitions of a page, and with the comments that name them:
    a figure that is not seen would never be compared."""
    found = []
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            if _DEFINITION.fullmatch(line) is None:
                found.append(f"{line!r}: expected NAME = results/FOLDER#/POINTER")
    names = [match["name"] for match in _QUOTE.finditer(text)]
    for name in _definitions(text):
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
        value = value_at(results, definition["pointer"])
        operand = definition["operand"]
        if operand is not None:
            by = value_at(results, operand[1:]) if operand[0] == "#" else float(operand)
            value = value * by if definition["operator"] == "*" else value / by
    except (KeyError, OSError, ValueError, ZeroDivisionError):
        return None
    shown = quote["number"]
    decimals = len(shown.partition(".")[2])
    return f"{value:{',' if ',' in shown or value >= 10_000 else ''}.{decimals}f}"
