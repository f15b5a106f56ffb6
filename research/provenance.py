"""Where results come from: the commits, processors and commands that results.json files record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Source", "list_sources", "mixture_note"]

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
    found = []
    for path in sorted(root.rglob("results.json")):
        results = json.loads(path.read_text("utf-8"))
        # A file of several measurements has the results of each by name.
        measured = {"": results} if "environment" in results else results
        values = (", ".join(_group(measured, key)) for key in ("commit", "processor", "command"))
        found.append(Source(path, *values))
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


def _group(measured: Mapping[str, Any], key: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, results in measured.items():
        value = results.get("environment", {}).get(key) or _NOT_RECORDED
        found.setdefault(value, []).append(name)
    return found
