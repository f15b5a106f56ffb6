"""Fills the page of the dependencies' licenses from the metadata of the installed packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = "docs/reference/licenses"
# Extras for those who work on the repository.
DEVELOPMENT = {"dev", "docs", "lint", "research", "test"}


def required(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of all packages that one needs, itself included, as far as installed."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        found.add(package)
        for requirement in _requirements(*package):
            own = canonicalize_name(requirement.name), frozenset(requirement.extras)
            waiting.append(own)
    return {own for own, _ in found}


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        environments = [{**default_environment(), "extra": extra} for extra in extras or {""}]
        if marker is None or any(marker.evaluate(each) for each in environments):
            yield requirement


def license_of(package: Distribution) -> str:
    """Return the license expression of a package, or what else its metadata say."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    prefix = "License :: "
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier", [])
        if each.startswith(prefix) and each != f"{prefix}OSI Approved"
    ]
    line = (metadata.get("License") or "").strip().split("\n")[0]
    return ", ".join(classifiers) or line[:80] or "see the package"


def describe() -> Iterator[str]:
    """Yield the Markdown of a table per extra, each with what it adds to the base installation."""
    base = required("hyperagg")
    extras = distribution("hyperagg").metadata.get_all("Provides-Extra", [])
    groups = [("base installation", base - {"hyperagg"})]
    groups += [
        (f"hyperagg[{extra}]", required("hyperagg", frozenset({extra})) - base)
        for extra in sorted(set(extras) - DEVELOPMENT)
    ]
    for title, names in groups:
        rows = [row for name in sorted(names) if (row := _row(name))]
        absent = sorted(name for name in names if not _row(name))
        yield f"## {title}"
        if rows:
            yield "\n".join(["| package | license |", "|---|---|", *rows])
        if absent:
            yield f"Not installed where this page was made: {', '.join(absent)}."


def _row(name: str) -> str:
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return ""
    cell = re.sub(r"\s+", " ", license_of(package)).replace("|", r"\|")
    return f"| [{name}](https://pypi.org/project/{name}/) | {cell} |"


def fill(app: Any, name: str, source: list[str]) -> None:
    """Append the tables to the source of their page."""
    if name == PAGE:
        source[0] += "\n" + "\n\n".join(describe())


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}
