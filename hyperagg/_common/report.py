"""What every study writes: results.json, and a table for people."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from hyperagg._common.atomic import atomic_write

__all__ = [
    "environment",
    "make_table",
    "markdown_table",
    "spread",
    "times",
    "write_results",
]


def environment() -> dict[str, Any]:
    """The machine and the versions that a figure was measured with."""
    packages = ("hyperagg", "torch", "numpy", "numba", "tokenizers", "scikit-learn")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        **{package: version(package) for package in ("transformers",) if find_spec(package)},
    }


def spread(values: Sequence[float], scale: float = 100, digits: int = 2) -> str:
    """mean ± deviation of the seeds; the deviation is of a sample, hence none for one seed."""
    mean = f"{scale * float(np.mean(values)):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * float(np.std(values, ddof=1)):.{digits}f}"


def times(ratio: float) -> str:
    return f"{ratio:.1f} ×" if ratio < 10 else f"{ratio:.0f} ×"


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    # Without frames, so that eight columns fit into a terminal of 80.
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_results(folder: Path, results: Mapping[str, Any]) -> Path:
    """results.json in `folder`, whole or not at all."""
    path = folder / "results.json"
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def _commit() -> str | None:
    """Of the checkout that runs; None where it is installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
