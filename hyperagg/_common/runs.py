"""The runs of a study, kept on disk one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write

__all__ = ["Runs"]


class Runs:
    """What was measured so far, kept in a file so that an interrupted study can go on."""

    def __init__(self, path: Path, what: str, resume: bool) -> None:
        self.path, self.what = path, what
        self.done: dict[str, dict[str, Any]] = {}
        if resume and path.exists():
            kept = json.loads(path.read_text("utf-8"))
            if kept["what"] != what:
                raise ValueError(f"{path}: of another study ({kept['what']}); name another --out")
            self.done = kept["runs"]

    def add(self, key: str, run: dict[str, Any]) -> None:
        self.done[key] = run
        with atomic_write(self.path) as draft:
            draft.write_text(json.dumps({"what": self.what, "runs": self.done}), "utf-8")
