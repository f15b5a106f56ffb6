"""Writes safetensors files whose tensors are aligned, maps them, and tells what they belong to.

A safetensors file is the length of a header (8 bytes), the header (JSON, which may end in spaces)
and the bytes of the tensors without gaps. The library's own writer aligns the bytes to 8; here they
start at a multiple of 64, a cache line, and the largest tensor of the widest type comes first.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from safetensors import safe_open

from hyperagg._common.regular_file import open_regular

__all__ = [
    "BELONGS_TO",
    "TensorInfo",
    "check_belongs",
    "digest_model",
    "digest_texts",
    "load_tensors",
    "map_tensors",
    "read_header",
    "write_tensors",
]

# The metadata with the digest of the configuration and the tokenizers that the tensors belong to.
BELONGS_TO = "hyperagg.belongs_to"

_ALIGNMENT = 64  # bytes
_MAX_HEADER_BYTES = 100_000_000  # as in the safetensors library
_DTYPES = {
    "BOOL": np.dtype("bool"),
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}")
       for kind in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# The bytes per element; NumPy lacks some types of other libraries.
_BYTES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}
_BYTES |= {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


class TensorInfo(NamedTuple):
    """What the header of a safetensors file says of a tensor.

    Attributes:
        dtype: the name of the type in the format, such as "F32".
        shape: its dimensions.
        begin: where its bytes begin among those of all tensors.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int


def write_tensors(
    file: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write arrays to a safetensors file.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
        TypeError: an array has a type that safetensors files do not have.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # By decreasing width, so that no element lies across the alignment of its type.
    ordered = sorted(arrays, key=lambda key: (-arrays[key].itemsize, -arrays[key].nbytes, key))
    for key in ordered:
        array = arrays[key]
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise TypeError(f"tensor {key}: {array.dtype} cannot be saved")
        header[key] = {
            "dtype": _NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for key in ordered:
            array = arrays[key]
            content = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            opened.write(content.reshape(-1).view(np.uint8).data)


def map_tensors(file: Path) -> dict[str, np.ndarray]:
    """Map the tensors of a safetensors file into memory.

    All processes that map a file share one copy of it, in the page cache. The arrays stay what they
    are if the file is replaced or removed, but not if it is overwritten in place.

    Returns:
        Arrays that are read-only. The memory behind them is copied on write, so a change by one
        process, if it forces one, is never seen by another or written to the file.

    Raises:
        ValueError: the file is not a valid safetensors file.
        OSError: it cannot be read or mapped.

    Cost: the header is read; a tensor's pages are read when they are first used.
    """
    with open_regular(file) as opened:
        start, tensors = _read_header(opened)
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    arrays = {}
    for name, info in tensors.items():
        if info.dtype not in _DTYPES:
            raise ValueError(f"tensor {shorten(name)} is {info.dtype}, which NumPy lacks")
        dtype, count = _DTYPES[info.dtype], math.prod(info.shape)
        where = start + info.begin
        array = np.frombuffer(content, dtype, count, where) if count else np.empty(0, dtype)
        array = array.reshape(info.shape)[...]
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def load_tensors(file: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file into memory of their own, where they may be written.

    Raises:
        ValueError, OSError: as for `map_tensors`.
    """
    return {name: array.copy() for name, array in map_tensors(file).items()}


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Return what the header of a safetensors file says, which fits the size of the file.

    Raises:
        ValueError: not a regular file, or not a valid safetensors file.
        OSError: it cannot be read.

    Cost: the header is read, not the tensors.
    """
    with open_regular(file) as opened:
        return _read_header(opened)[1]


def digest_model(config: Mapping[str, Any], tokenizers: Iterable[str]) -> str:
    """Return the digest of what the tensors of a model belong to: its configuration and tokenizers.

    The times of training are left out, or the same seed would not give the same file.
    """
    history = config.get("history")
    if isinstance(history, dict):
        config = {**config, "history": {k: v for k, v in history.items() if k != "seconds"}}
    return digest_texts([json.dumps(config, sort_keys=True), *tokenizers])


def digest_texts(texts: Iterable[str]) -> str:
    """Return the digest of texts, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def check_belongs(file: Path, expected: str) -> None:
    """Raise ValueError if a file with a valid header names another digest than `expected`.

    A model that is read while another process replaces it, or after that process was killed, may
    consist of files of two models. Shapes do not tell: large vocabularies have as many entries as
    they may. A file without a digest, such as that of another program, is accepted.
    """
    with safe_open(file, "numpy") as opened:
        found = (opened.metadata() or {}).get(BELONGS_TO, expected)
    if found != expected:
        raise ValueError(
            "belongs to another config.json or tokenizer.json; another process replaces the model, "
            "or was stopped while it did"
        )


def _read_header(opened: BinaryIO) -> tuple[int, dict[str, TensorInfo]]:
    """Return where the bytes of the tensors begin, and the tensors."""
    size = opened.seek(0, 2)
    opened.seek(0)
    length = int.from_bytes(opened.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
        raise ValueError("its header is incomplete")
    try:
        header = json.loads(opened.read(length), object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    header.pop("__metadata__", None)
    start = 8 + length
    tensors, intervals = {}, []
    for name, described in header.items():
        info, end = _parse(name, described)
        if end - info.begin != math.prod(info.shape) * _BYTES[info.dtype] or end > size - start:
            raise ValueError(f"tensor {name!r} has {end - info.begin} bytes at {info.begin}")
        intervals.append((info.begin, end))
        tensors[name] = info
    # Without gaps and overlaps, as the format has it.
    borders = [0, *(end for _, end in sorted(intervals))]
    if [begin for begin, _ in sorted(intervals)] != borders[:-1] or borders[-1] != size - start:
        raise ValueError("its tensors do not fill the file")
    return start, tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; of two values of one name, readers would take different ones."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _parse(name: str, described: Any) -> tuple[TensorInfo, int]:
    """Return what is said of a tensor, and where its bytes end."""
    try:
        # What the format does not have is damage, after which the rest may be shifted.
        if len(described) != 3:
            raise ValueError
        dtype, shape = described["dtype"], described["shape"]
        begin, end = described["data_offsets"]
        numbers = [begin, end, *shape]
        known = dtype in _BYTES
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"tensor {name!r} is not described correctly") from error
    if not (known and all(type(number) is int and 0 <= number < 2**63 for number in numbers)):
        raise ValueError(f"tensor {name!r} is not described correctly")
    return TensorInfo(dtype, tuple(shape), begin), end
