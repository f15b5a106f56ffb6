"""Reads and writes the state of an interrupted training run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from hyperagg._common.atomic import atomic_write
from hyperagg._common.tensors import digest_texts, write_tensors
from hyperagg._common.validation import check_path

__all__ = [
    "START_AGAIN",
    "check_checkpoint",
    "check_same_run",
    "check_space",
    "digest_arrays",
    "read_checkpoint",
    "remove_checkpoint",
    "write_checkpoint",
]

# Changes with what a record holds or means, such as what decides on the best epoch.
_FORMAT = "2"
START_AGAIN = "start again with --force instead of --resume (in Python with resume=False)"

_MAX_SHOWN = 24  # characters of a value in a message
_DIGEST = re.compile("[0-9a-f]{32}")


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
        text = json.dumps(record)
        metadata = {"format": _FORMAT, "record": text, "digest": digest_texts([text])}
        write_tensors(draft, arrays, metadata)


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the record that `write_checkpoint` wrote.

    Raises:
        ValueError: the file is not a checkpoint of hyperagg, or is one of another version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            text, saved_format = metadata["record"], metadata.get("format")
            if saved_format == _FORMAT and metadata["digest"] != digest_texts([text]):
                raise ValueError
            record = json.loads(text)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a checkpoint of hyperagg; delete it to start from the beginning"
        ) from error
    if saved_format != _FORMAT:
        raise ValueError(f"{path}: a checkpoint of another version of hyperagg; {START_AGAIN}")
    return arrays, record


def check_space(path: Path, num_bytes: int) -> None:
    """Make sure, before a training, that there is space for what it writes.

    Args:
        path: the checkpoint.
        num_bytes: what the checkpoint and the model have at least.

    Raises:
        ValueError: fewer bytes are free.
    """
    folder = next(each for each in path.absolute().parents if each.exists())
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise ValueError(
            f"{path}: {free / 1e6:,.1f} MB are free in {folder}; the checkpoint and the model need "
            f"{num_bytes / 1e6:,.1f} MB"
        )


def digest_arrays(arrays: Iterable[np.ndarray | None]) -> str:
    """Return the digest of arrays, of their types and of their shapes, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array is None:
            digest.update(b"None")
            continue
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_same_run(path: Path, saved: Any, current: Mapping[str, Any]) -> None:
    """Make sure that a checkpoint belongs to the run that is to continue from it.

    Args:
        path: the checkpoint.
        saved: what identified the run that wrote it.
        current: what identifies this run: arguments as JSON values by name, also nested, and data
            as what `digest_arrays` or `digest_texts` returns.

    Raises:
        ValueError: they differ; the message names the arguments that differ, or if there are none
            the data. Which rows are held out, for instance, depends on the seed.
    """
    # What has been through JSON has lists for tuples.
    found = list(_differences(saved, json.loads(json.dumps(current))))
    arguments = [described for described, is_argument in found if is_argument]
    if found:
        shown = ", ".join(arguments or [described for described, _ in found])
        raise ValueError(
            f"{path}: belongs to a run with other data or arguments: {shown}; repeat those, or "
            f"{START_AGAIN}"
        )


def _differences(saved: Any, current: Any, name: str = "run") -> Iterator[tuple[str, bool]]:
    """Yield each value that differs, as a message describes it, and whether it is an argument."""
    if saved == current:
        return
    if isinstance(saved, dict) and isinstance(current, dict):
        for key in dict.fromkeys([*current, *saved]):
            yield from _differences(saved.get(key), current.get(key), key)
        return
    there, here = _describe(saved), _describe(current)
    described = name if there == here else f"{name} {there} there and {here} here"
    yield described, not (_is_digest(saved) and _is_digest(current))


def _describe(value: Any) -> str:
    """Return a short value itself, and of any other only that it was given."""
    if value is None:
        return "not given"
    text = json.dumps(value, ensure_ascii=False)
    long = isinstance(value, list | dict) or _is_digest(value) or len(text) > _MAX_SHOWN
    return "given" if long else text


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, and the drafts that a run left behind when it was killed."""
    path.unlink(missing_ok=True)
    for draft in path.parent.glob(f".{path.name}.*"):
        draft.unlink(missing_ok=True)
