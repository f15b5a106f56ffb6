"""The directories that hold data sets: HYPERAGG_DATA and the cache."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_directory", "data_directory", "is_complete"]


def data_directory() -> Path | None:
    """Return the directory in HYPERAGG_DATA; None if the variable is not set."""
    value = os.environ.get("HYPERAGG_DATA")
    return Path(value).expanduser() if value else None


def cache_directory() -> Path:
    """Return HYPERAGG_CACHE, or else `hyperagg` in XDG_CACHE_HOME or in ~/.cache."""
    value = os.environ.get("HYPERAGG_CACHE")
    if value:
        return Path(value).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hyperagg"


def is_complete(folder: Path) -> bool:
    """Return whether a folder has both train and test."""
    return (folder / "train.parquet").is_file() and (folder / "test.parquet").is_file()
