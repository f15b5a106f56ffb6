"""Reads and writes the state of an interrupted training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from hyperagg._common.atomic import atomic_write
from hyperagg._common.tensors import write_tensors
from hyperagg._common.validation import check_path

__all__ = ["check_checkpoint", "read_checkpoint", "remove_checkpoint", "write_checkpoint"]


def check_checkpoint(checkpoint: str | Path | None, resume: bool) -> Path | None:
    """Return the argument `checkpoint` of an estimator as a path.

    Raises:
        TypeError: it is not a str or a path.
        ValueError: it is a folder, or missing although `resume` is True.
    """
    if checkpoint is None:
        if resume:
            raise ValueError("resume=True: expected the checkpoint to resume from as well")
        return None
    path = check_path("checkpoint", checkpoint)
    if path.is_dir():
        raise ValueError(f"checkpoint: {path} is a folder; expected a file")
    return path


def write_checkpoint(
    path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON record to one safetensors file, atomically.

    `record` has an entry "run", which identifies the run. PyTorch tensors are passed as
    `tensor.detach().cpu().numpy()`.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path) as draft:
        write_tensors(draft, arrays, {"record": json.dumps(record)})


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the record that `write_checkpoint` wrote.

    Raises:
        ValueError: the file is not a checkpoint of hyperagg.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            record = json.loads(file.metadata()["record"])
            record["run"]  # which every record has
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a checkpoint of hyperagg; delete it to start from the beginning"
        ) from error


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, and the drafts that a run left behind when it was killed."""
    path.unlink(missing_ok=True)
    for draft in path.parent.glob(f".{path.name}.*"):
        draft.unlink(missing_ok=True)
