"""Where results come from: the commits, processors and commands that results.json files record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Source", "find_unnamed_mixtures", "list_sources", "mixture_note"]

# "## Speed" begins a section.
_HEADING = re.compile(r"^#+ ", re.MULTILINE)
_TABLE = re.compile(r"<!-- table: (results/[\w./-]+)/[\w-]+\.md -->")
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Source:
    """A results.json file, and what it says about where it comes from.

    Args:
        path: the file.
        commit: of the code that was measured.
        processor: that it was measured on.
        command: that measured it.

    A file of several measurements that differ has several of each, separated by commas.
    """

    path: Path
    commit: str
    processor: str
    command: str


def list_sources(root: Path) -> list[Source]:
    """Return the results.json files below a folder, in order."""
    return [_read_source(path) for path in sorted(root.rglob("results.json"))]


def find_unnamed_mixtures(text: str, root: Path) -> list[str]:
    """Return which tables of a page are of several commits or processors, and which of the two
    words their section lacks: a reader takes the rows of a table for comparable.

    Args:
        text: the page.
        root: the folder that "results/" is in.
    """
    found = []
    for section in _HEADING.split(text):
        for folder in dict.fromkeys(_TABLE.findall(section)):
            source = _read_source(root / folder / "results.json")
            for word, recorded in (("commit", source.commit), ("processor", source.processor)):
                if ", " in recorded and word not in section.lower():
                    found.append(f"{folder}: the table is of several {word}s, which it has to say")
    return found


def mixture_note(measured: Mapping[str, Any]) -> str:
    """Name the commits and processors of a table, one per line, where it has several of them.

    Args:
        measured: the results of each measurement, by its name in the table.

    Returns:
        Markdown to append to the table; "" if all measurements have one commit and one processor.
    """
    lines = []
    for key, title in {"commit": "Commits", "processor": "Processors"}.items():
        groups = _group(measured, key)
        if len(groups) > 1:
            parts = (f"{value} ({', '.join(names)})" for value, names in groups.items())
            lines.append(f"\n{title}: {'; '.join(parts)}.\n")
    return "".join(lines)


def _read_source(path: Path) -> Source:
    try:
        results = json.loads(path.read_text("utf-8"))
        # A file of several measurements has the results of each by name.
        measured = {"": results} if "environment" in results else results
        values = [", ".join(_group(measured, key)) for key in ("commit", "processor", "command")]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of results ({error})") from error
    return Source(path, *values)


def _group(measured: Mapping[str, Any], key: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, results in measured.items():
        value = results.get("environment", {}).get(key) or _NOT_RECORDED
        found.setdefault(value, []).append(name)
    return found
