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
from typing import Any

import numpy as np
from safetensors import safe_open

__all__ = ["BELONGS_TO", "check_belongs", "digest_texts", "map_tensors", "write_tensors"]

# The metadata with the digest of the texts that say what the rows of the tensors are.
BELONGS_TO = "hyperagg.rows"

_ALIGNMENT = 64  # bytes
_MAX_HEADER_BYTES = 100_000_000  # as in the safetensors library
_DTYPES = {
    "BOOL": np.dtype("bool"),
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}")
       for kind in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


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
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(0)
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise ValueError("its header is incomplete")
        try:
            header = json.loads(opened.read(length))
        except RecursionError as error:
            raise ValueError("its header is nested too deeply") from error
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    header.pop("__metadata__", None)
    start = 8 + length
    arrays, intervals = {}, []
    for name, described in header.items():
        dtype, shape, begin, end = _parse(name, described)
        count = math.prod(shape)
        if end - begin != count * dtype.itemsize or end > size - start:
            raise ValueError(f"tensor {name!r} has {end - begin} bytes at {begin}")
        intervals.append((begin, end))
        array = np.frombuffer(content, dtype, count, start + begin) if count else np.empty(0, dtype)
        array = array.reshape(shape)[...]
        array.flags.writeable = False
        arrays[name] = array
    # Without gaps and overlaps, as the format has it.
    borders = [0, *(end for _, end in sorted(intervals))]
    if [begin for begin, _ in sorted(intervals)] != borders[:-1] or borders[-1] != size - start:
        raise ValueError("its tensors do not fill the file")
    return arrays


def digest_texts(texts: Iterable[str]) -> str:
    """Return the digest of texts, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def check_belongs(file: Path, expected: str) -> None:
    """Raise ValueError if a file, which has been read, names another digest than `expected`.

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


def _parse(name: str, described: Any) -> tuple[np.dtype, list[int], int, int]:
    """Return the type, the shape and the interval of a tensor."""
    try:
        dtype, shape = _DTYPES[described["dtype"]], described["shape"]
        begin, end = described["data_offsets"]
        numbers = [begin, end, *shape]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"tensor {name!r} is not described correctly") from error
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"tensor {name!r} is not described correctly")
    return dtype, shape, begin, end
