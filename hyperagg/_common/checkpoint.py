"""The state of a run between two of its chunks, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyperagg._common.atomic import atomic_write

__all__ = ["read_checkpoint", "remove_checkpoint", "write_checkpoint"]


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Tensors and a JSON record in one safetensors file."""
    with atomic_write(path) as draft:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            draft,
            metadata={"record": json.dumps(record)},
        )


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_checkpoint` wrote.

    Raises:
        ValueError: the file is no checkpoint of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["record"])
            record["run"]  # what every record has
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a checkpoint of hyperagg; delete it to start anew"
        ) from error


def remove_checkpoint(path: Path) -> None:
    """Removes it, and the drafts of it that a run left which was killed while writing."""
    path.unlink(missing_ok=True)
    for draft in path.parent.glob(f".{path.name}.*"):
        draft.unlink(missing_ok=True)
