"""The completed runs of a study, in a file that an interrupted study resumes from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment
from hyperagg._common.tensors import digest_texts

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
        ValueError: the file is not a file of runs, was changed since it was written, or belongs to
            another study.
    """

    def __init__(self, path: Path, study: str, resume: bool) -> None:
        self.path, self.study = path, study
        self.done: dict[str, dict[str, Any]] = {}
        self._environment = environment()
        self._origins: dict[str, dict[str, str | None]] = {}
        if resume and path.exists():
            saved = _read(path)
            if saved["study"] != study:
                raise ValueError(
                    f"{path}: has the runs of another study ({saved['study']}); choose another "
                    "folder"
                )
            self.done, self._origins = saved["runs"], saved["origins"]

    def add(self, key: str, run: dict[str, Any]) -> None:
        """Record a run, and write the file."""
        self.done[key] = run
        self._origins[key] = {name: self._environment[name] for name in _ORIGIN}
        saved = {"study": self.study, "runs": self.done, "origins": self._origins}
        with atomic_write(self.path) as draft:
            draft.write_text(json.dumps({**saved, "digest": _digest(saved)}), "utf-8")

    def environment(self, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """Describe the machine and the versions, as `report.environment` does.

        Runs that were resumed may be of another commit or processor. So these two name all that
        the runs have, separated by commas, with "not recorded" for runs that have none.

        Args:
            keys: the runs that count; None for all that are done.
        """
        origins = [self._origins[key] for key in (self.done if keys is None else keys)]
        found = dict(self._environment)
        for name in _ORIGIN:
            values = list(dict.fromkeys(origin[name] for origin in origins))
            if len(values) == 1:
                [found[name]] = values
            elif values:
                found[name] = ", ".join(value or "not recorded" for value in values)
        return found


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file of runs, which a digest protects from changes."""
    try:
        saved = json.loads(path.read_text("utf-8"))
        is_whole = saved.pop("digest") == _digest(saved)
        # Another version may write another structure.
        if is_whole and saved["runs"].keys() == saved["origins"].keys() and saved["study"]:
            return saved
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path}: not a file of runs, or damaged; remove it, or choose another folder")


def _digest(saved: dict[str, Any]) -> str:
    return digest_texts([json.dumps(saved)])
