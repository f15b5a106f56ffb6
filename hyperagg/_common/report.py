"""Results of measurements: the environment, results.json, and tables for people."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.terminal import cell
from hyperagg._numba.cpus import default_threads

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "environment",
    "make_table",
    "markdown_table",
    "print_table",
    "spread",
    "times",
    "write_results",
]

_PACKAGES = (
    *("hyperagg", "torch", "numpy", "numba"),
    *("tokenizers", "scikit-learn", "transformers"),
)

# Of a table in a pipe or a log, in characters.
_MAX_WIDTH = 200


def environment() -> dict[str, Any]:
    """Describe the machine and the installed versions that a result was measured with.

    Returns:
        "processor", "cores", "threads", "commit" (None outside a checkout; with "+" if files of
        the code differ from it), "command" (the one that runs), "system", "python", and the
        version of each package that is installed.
    """
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": default_threads(),
        "commit": _commit(),
        "command": _command(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def spread(values: Sequence[float], scale: float = 100, digits: int = 2) -> str:
    """Format "mean ± sample standard deviation"; a single value has no deviation.

    >>> spread([0.5, 0.7])
    '60.00 ± 14.14'
    >>> spread([-1e-9])
    '0.00'
    """
    mean = f"{scale * float(np.mean(values)):z.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * float(np.std(values, ddof=1)):.{digits}f}"


def times(ratio: float) -> str:
    """Format a ratio, with one decimal below 10.

    >>> times(2.54)
    '2.5 ×'
    """
    return f"{ratio:.1f} ×" if ratio < 10 else f"{ratio:.0f} ×"


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a rich table for the terminal, the first column aligned left and the others right."""
    from rich.table import Table

    # Without a frame, eight columns fit into 80 characters.
    table = Table(title=cell(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(cell(column), justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or as wide as it is where there is none."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=_MAX_WIDTH)
    console.print(table)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table, the first column aligned left and the others right."""
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_results(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write results.json to a folder atomically, and return its path."""
    path = folder / "results.json"
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def _commit() -> str | None:
    root = Path(__file__).parents[2]
    if "site-packages" in root.parts:  # an enclosing repository is not ours
        return None
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return None
    # Results and pages may differ: a run writes them.
    changed = _git(root, "status", "--porcelain", "--", "hyperagg", "research")
    return f"{commit}+" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _command() -> str:
    program, *arguments = sys.argv
    module = sys.modules["__main__"].__spec__
    if module is not None and module.origin == program:  # started by python -m
        name = module.name.removesuffix(".__main__")
        return shlex.join(["python", "-m", name, *arguments])
    path = Path(program)
    if path.name == "__main__.py":  # in a process that such a program has spawned
        return shlex.join(["python", "-m", path.parent.name, *arguments])
    return shlex.join([path.name, *arguments])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
