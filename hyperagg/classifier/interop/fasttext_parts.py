"""Reads the parts of a binary fastText file: numbers, entries of the dictionary, and matrices.

A product-quantized matrix has one code per row and group of columns, the index of a centroid, and
optionally one code per row for its norm:

    row_i  =  norm_i [centroid_0(code_i0), centroid_1(code_i1), ...]

Every size is checked against the rest of the file before it is used. Source: Joulin et al. (2016),
"FastText.zip: Compressing text classification models".
"""

from __future__ import annotations

import struct
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["Parts"]

_NUM_CENTROIDS = 256  # a code is one byte
# Quantization by fastText's default stores two float32 in a byte. The limit keeps a small file
# from asking for more memory than the machine has.
_MAX_EXPANSION = 128


class Parts:
    """The content of a binary fastText file, read from beginning to end and never past the end.

    Args:
        path: the file, for errors.
        file: the open file.
        data: its content.
        at: where to begin.
    """

    def __init__(self, path: Path, file: BinaryIO, data: mmap, at: int) -> None:
        self.path, self.file, self.data, self.at = path, file, data, at

    def need(self, size: int, part: str) -> None:
        """Raise an error unless the rest of the file has so many bytes."""
        if size > len(self.data) - self.at:
            raise ValueError(
                f"{self.path}: truncated in the {part}, after {len(self.data):,} bytes; "
                "download it again"
            )

    def damaged(self, reason: str) -> ValueError:
        """Return an error that names the file and the reason."""
        return ValueError(f"{self.path}: damaged ({reason}); download it again")

    def numbers(self, layout: str, part: str) -> tuple[Any, ...]:
        """Return the numbers of a `struct` layout."""
        size = struct.calcsize(layout)
        self.need(size, part)
        self.at += size
        return struct.unpack_from(layout, self.data, self.at - size)

    def flag(self, what: str, part: str) -> bool:
        """Return a byte that is 0 or 1."""
        (value,) = self.numbers("<B", part)
        if value > 1:
            raise self.damaged(f"the flag for {what} is neither 0 nor 1")
        return value == 1

    def array(self, dtype: str, count: int, part: str) -> np.ndarray:
        """Return an array of so many numbers."""
        size = np.dtype(dtype).itemsize * count
        self.need(size, part)
        self.file.seek(self.at)
        self.at += size
        return np.fromfile(self.file, dtype=dtype, count=count)

    def entry(self) -> tuple[bytes, int, int]:
        """Return an entry of the dictionary, its count and its kind."""
        end = self.data.find(b"\0", self.at)
        self.need(end + 10 - self.at if end >= 0 else len(self.data), "dictionary")
        text = self.data[self.at : end]
        self.at = end + 10
        return text, *struct.unpack_from("<qB", self.data, end + 1)

    def matrix(self, rows: int, dim: int, part: str) -> np.ndarray:
        """Return a matrix (rows, dim) of float32."""
        self._check_shape(rows, dim, part)
        return self._floats(rows * dim, part).reshape(rows, dim)

    def quantized_matrix(self, rows: int, dim: int, part: str) -> np.ndarray:
        """Return a product-quantized matrix as (rows, dim) float32.

        Cost: 4 * dim bytes per row, where the file has a byte for every few columns.
        """
        has_norms = self.flag("quantized norms", part)
        self._check_shape(rows, dim, part)
        (size,) = self.numbers("<i", part)
        at = self.at
        self.need(size if size > 0 else 0, part)
        self.at += max(size, 0)
        centroids, width = self._centroids(dim, part)
        groups = -(-dim // width)
        if size != rows * groups:
            raise self.damaged(f"the {part} has {size} codes, but its shape requires "
                               f"{rows} x {groups}")  # fmt: skip
        if 4 * rows * dim > _MAX_EXPANSION * len(self.data):
            raise ValueError(
                f"{self.path}: the {part} takes {4 * rows * dim / 1e9:.1f} GB as float32, more "
                f"than {_MAX_EXPANSION} times the file; expected at most that"
            )
        after, self.at = self.at, at
        codes = self.array("u1", size, part).reshape(rows, groups)
        self.at = after
        values = np.empty((rows, dim), dtype=np.float32)
        for group in range(groups):
            columns = slice(group * width, min(dim, (group + 1) * width))
            # All centroids of a group follow each other; the last group may be narrower.
            own = centroids[columns.start * _NUM_CENTROIDS : columns.stop * _NUM_CENTROIDS]
            values[:, columns] = own.reshape(_NUM_CENTROIDS, -1)[codes[:, group]]
        if has_norms:
            norm_codes = self.array("u1", rows, part)
            norms, _ = self._centroids(1, part)
            with np.errstate(over="ignore"):  # infinity is refused below
                values *= norms[norm_codes][:, None]
            self._check_finite(values, part)
        return values

    def _check_shape(self, rows: int, dim: int, part: str) -> None:
        found = self.numbers("<qq", part)
        if found != (rows, dim):
            raise self.damaged(
                f"the {part} is {found[0]} x {found[1]}, but the parts before it require "
                f"{rows} x {dim}"
            )

    def _centroids(self, dim: int, part: str) -> tuple[np.ndarray, int]:
        """The centroids of vectors of `dim` columns, end to end, and the columns of a group."""
        found_dim, groups, width, last = self.numbers("<4i", part)
        if (
            found_dim != dim
            or not 1 <= width <= dim
            or groups != -(-dim // width)
            or last != dim - (groups - 1) * width
        ):
            raise self.damaged(
                f"the {part} has {groups} groups of {width} columns and {last} in the last, but "
                f"{dim} columns"
            )
        return self._floats(_NUM_CENTROIDS * dim, part), width

    def _floats(self, count: int, part: str) -> np.ndarray:
        values = self.array("<f4", count, part).astype(np.float32, copy=False)
        self._check_finite(values, part)
        return values

    def _check_finite(self, values: np.ndarray, part: str) -> None:
        # Minimum and maximum are NaN if any value is.
        if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise self.damaged(f"the {part} has numbers that are not finite")
