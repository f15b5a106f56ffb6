"""The completed runs of a study, in a file that an interrupted study resumes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write

__all__ = ["Runs"]


class Runs:
    """Completed runs by key, written to a JSON file after each of them.

    Args:
        path: the file.
        study: describes the study; runs of another study are refused.
        resume: read the runs that the file contains.

    Attributes:
        done: {key: run}.

    Raises:
        ValueError: the file is not a file of runs, or belongs to another study.
    """

    def __init__(self, path: Path, study: str, resume: bool) -> None:
        self.path, self.study = path, study
        self.done: dict[str, dict[str, Any]] = {}
        if resume and path.exists():
            try:
                saved = json.loads(path.read_text("utf-8"))
                found, runs = saved["study"], dict(saved["runs"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{path}: not a file of runs; remove it, or choose another folder"
                ) from None
            if found != study:
                raise ValueError(
                    f"{path}: has the runs of another study ({found}); choose another folder"
                )
            self.done = runs

    def add(self, key: str, run: dict[str, Any]) -> None:
        """Record a run, and write the file."""
        self.done[key] = run
        with atomic_write(self.path) as draft:
            draft.write_text(json.dumps({"study": self.study, "runs": self.done}), "utf-8")
