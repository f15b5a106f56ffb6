"""The completed runs of a study, in a file that an interrupted study resumes from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment

__all__ = ["Runs"]

_ORIGIN = ("commit", "processor")


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
        self._environment = environment()
        self._origins: dict[str, dict[str, str | None]] = {}
        if resume and path.exists():
            try:
                saved = json.loads(path.read_text("utf-8"))
                found, runs = saved["study"], dict(saved["runs"])
                origins = dict(saved.get("origins", {}))
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{path}: not a file of runs; remove it, or choose another folder"
                ) from None
            if found != study:
                raise ValueError(
                    f"{path}: has the runs of another study ({found}); choose another folder"
                )
            self.done, self._origins = runs, origins

    def add(self, key: str, run: dict[str, Any]) -> None:
        """Record a run, and write the file."""
        self.done[key] = run
        self._origins[key] = {name: self._environment[name] for name in _ORIGIN}
        saved = {"study": self.study, "runs": self.done, "origins": self._origins}
        with atomic_write(self.path) as draft:
            draft.write_text(json.dumps(saved), "utf-8")

    def environment(self, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """Describe the machine and the versions, as `report.environment` does.

        Runs that were resumed may be of another commit or processor. So these two name all that
        the runs have, separated by commas, with "not recorded" for runs that have none.

        Args:
            keys: the runs that count; None for all that are done.
        """
        origins = [self._origins.get(key, {}) for key in (self.done if keys is None else keys)]
        found = dict(self._environment)
        for name in _ORIGIN:
            values = list(dict.fromkeys(origin.get(name) for origin in origins))
            if len(values) == 1:
                [found[name]] = values
            elif values:
                found[name] = ", ".join(value or "not recorded" for value in values)
        return found
