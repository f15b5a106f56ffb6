"""The directories that hold data sets: HYPERAGG_DATA and the cache."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_directory", "data_directory", "is_complete"]


def data_directory() -> Path | None:
    """Return the directory in HYPERAGG_DATA; None if the variable is not set.

    Raises:
        ValueError: the variable does not name a directory.
    """
    directory = _from_variable("HYPERAGG_DATA")
    if directory is not None and not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise ValueError(
            f"HYPERAGG_DATA={directory}: {what}; expected a directory of data sets, or no such "
            "variable"
        )
    return directory


def cache_directory() -> Path:
    """Return HYPERAGG_CACHE, or else `hyperagg` in XDG_CACHE_HOME or in ~/.cache.

    Raises:
        ValueError: the variable names the home of an unknown user.
    """
    directory = _from_variable("HYPERAGG_CACHE")
    if directory is not None:
        return directory
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hyperagg"


def _from_variable(name: str) -> Path | None:
    """The path in an environment variable; None if it is not set or empty."""
    value = os.environ.get(name)
    if not value:
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # ~user of an unknown user
        raise ValueError(
            f"{name}={value}: the home directory of this user is not known; expected the path of a "
            "directory"
        ) from error


def is_complete(folder: Path) -> bool:
    """Return whether a folder has both train and test."""
    return (folder / "train.parquet").is_file() and (folder / "test.parquet").is_file()
