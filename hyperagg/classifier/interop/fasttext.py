"""Reads the files of fastText: the .bin of a supervised model, and a .vec table of word vectors.

A .bin is little-endian and has no separators between its parts: signature, arguments, dictionary,
input matrix, output matrix. Every size is checked against the rest of the file before it is used,
and every part against the parts before it. An error names the file, the reason and a remedy.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, BinaryIO

import numpy as np

from hyperagg.classifier.interop.fasttext_tokenizer import LABEL_PREFIX, FastTextTokenizer

__all__ = ["FastTextFile", "read_fasttext", "read_vectors"]

_SIGNATURE, _VERSIONS = struct.pack("<i", 793712314), (11, 12)
_ARGUMENTS = (
    *("dim", "window", "epochs", "min_count", "negatives", "word_ngrams"),
    *("loss", "model", "bucket", "minn", "maxn", "update_rate", "sampling"),
)
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_REFUSED = {"hs": "hierarchical softmax", "ns": "negative sampling"}
_HEADER = re.compile(rb"\d{1,18} [1-9]\d{0,8}\s*")
_MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}


@dataclass(frozen=True)
class FastTextFile:
    """Holds the content of the .bin of a supervised model.

    The logits of a text are output @ input[tokenizer.encode([text]).token_ids].mean(0). The
    probabilities are their softmax, or the sigmoid of each if the loss is "ova".

    Attributes:
        labels: the labels without the prefix "__label__".
        tokenizer: maps texts to rows of `input`.
        input: (rows, dim) float32, the vectors of the words, then of the hash buckets of n-grams.
        output: (labels, dim) float32.
        dim: the dimension of the vectors.
        loss: "softmax" or "ova".
    """

    labels: list[str]
    tokenizer: FastTextTokenizer
    input: np.ndarray
    output: np.ndarray
    dim: int
    loss: str


def read_fasttext(path: str | Path) -> FastTextFile:
    """Read a supervised model that fastText saved, in format version 11 or 12.

    Args:
        path: the .bin file.

    Raises:
        ValueError: the file is not such a model, is truncated or damaged, or its model is not a
            plain sum over rows: word vectors, quantized models, and models trained with
            hierarchical softmax or negative sampling.

    Cost: O(bytes), and memory for the matrices and the dictionary.

    Source: Joulin et al. (2017), "Bag of Tricks for Efficient Text Classification".
    """
    path = Path(path)
    with _open(path) as file:
        if file.read(4) != _SIGNATURE:
            raise ValueError(f"{path}: not a fastText model; expected the .bin that fastText saved")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _read(_Parts(path, file, data))


def read_vectors(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read word vectors from a text table with one word per line, such as a .vec or GloVe file.

    The first line may be a header, "V D". Words are returned as they are in the file, including
    repeated ones; a word may contain spaces.

    Args:
        path: the table.

    Returns:
        The words, and their vectors (V, D) float32.

    Raises:
        ValueError: a line is not a word with D finite numbers, or the number of lines is not that
            of the header.
    """
    path = Path(path)
    words: list[str] = []
    numbers = array("f")
    announced, dim = None, 0
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip(b" \r\n").split(b" ")
            if number == 1 and line.startswith(_SIGNATURE):
                raise ValueError(
                    f"{path}: a fastText model; expected the .vec table of its vectors"
                )
            if number == 1 and _HEADER.fullmatch(line):
                announced, dim = (int(field) for field in fields)
            elif fields != [b""]:
                dim = dim or len(fields) - 1
                try:
                    word, row = _word_and_row(fields, dim)
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None
                words.append(word)
                numbers.frombytes(row.tobytes())
    if announced is not None and announced != len(words):
        raise ValueError(
            f"{path}: the header announces {announced:,} words, but the file has {len(words):,}; "
            "download it again"
        )
    if not words:
        raise ValueError(f"{path}: no vectors; expected lines of a word and its numbers")
    return words, np.frombuffer(numbers, dtype=np.float32).reshape(len(words), dim)


def _word_and_row(fields: list[bytes], dim: int) -> tuple[str, np.ndarray]:
    expected = f"a word and {dim or 'its'} numbers, separated by spaces"
    # A word may contain spaces, but numbers after them mean that the row is too long.
    spare = fields[1 : len(fields) - dim]
    if not dim or len(fields) <= dim or not fields[0] or any(_is_number(part) for part in spare):
        first = shorten(fields[0].decode("utf-8", "replace"))
        raise ValueError(f"{first} with {len(fields) - 1} fields after it; expected {expected}")
    try:
        with np.errstate(over="ignore"):
            row = np.array([float(field) for field in fields[-dim:]], dtype=np.float32)
    except ValueError:
        bad = next(field for field in fields[-dim:] if not _is_number(field))
        text = shorten(bad.decode("utf-8", "replace"))
        raise ValueError(f"{text} is not a number; expected {expected}") from None
    if not np.isfinite(row).all():
        raise ValueError("a number is not finite; expected finite numbers")
    return b" ".join(fields[:-dim]).decode("utf-8", "replace"), row


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


class _Parts:
    """The content of a .bin, read from beginning to end and never past the end."""

    def __init__(self, path: Path, file: BinaryIO, data: mmap) -> None:
        self.path, self.file, self.data = path, file, data
        self.at = len(_SIGNATURE)

    def need(self, size: int, part: str) -> None:
        if size > len(self.data) - self.at:
            raise ValueError(
                f"{self.path}: truncated in the {part}, after {len(self.data):,} bytes; "
                "download it again"
            )

    def damaged(self, reason: str) -> ValueError:
        return ValueError(f"{self.path}: damaged ({reason}); download it again")

    def numbers(self, layout: str, part: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        self.need(size, part)
        self.at += size
        return struct.unpack_from(layout, self.data, self.at - size)

    def entry(self) -> tuple[bytes, int]:
        """A dictionary entry and its kind; its count is skipped."""
        end = self.data.find(b"\0", self.at)
        self.need(end + 10 - self.at if end >= 0 else len(self.data), "dictionary")
        text = self.data[self.at : end]
        self.at = end + 10
        return text, self.data[end + 9]

    def matrix(self, rows: int, dim: int, part: str) -> np.ndarray:
        found = self.numbers("<qq", part)
        if found != (rows, dim):
            raise self.damaged(
                f"the {part} is {found[0]} x {found[1]}, but the parts before it require "
                f"{rows} x {dim}"
            )
        self.need(4 * rows * dim, part)
        self.file.seek(self.at)
        values = np.fromfile(self.file, dtype="<f4", count=rows * dim)
        self.at += 4 * rows * dim
        # Minimum and maximum are NaN if any value is.
        if len(values) and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise self.damaged(f"the {part} has numbers that are not finite")
        return values.reshape(rows, dim).astype(np.float32, copy=False)


def _read(parts: _Parts) -> FastTextFile:
    path = parts.path
    (version,) = parts.numbers("<i", "signature")
    if version not in _VERSIONS:
        raise ValueError(f"{path}: format version {version}; expected 11 or 12")
    arguments = dict(zip(_ARGUMENTS, parts.numbers("<12id", "arguments")))
    kind, loss = _MODELS.get(arguments["model"]), _LOSSES.get(arguments["loss"])
    dim, bucket = arguments["dim"], arguments["bucket"]
    if kind is None or loss is None or dim < 1:
        raise parts.damaged("fastText does not write such arguments")
    if kind != "supervised":
        raise ValueError(
            f"{path}: a model of word vectors ({kind}) without labels; expected a supervised "
            "model, or the .vec table of these vectors in read_vectors"
        )
    if loss in _REFUSED:
        raise ValueError(
            f"{path}: trained with -loss {loss} ({_REFUSED[loss]}); "
            "expected -loss softmax or -loss ova; train again"
        )
    if version == 11:
        arguments["maxn"] = 0  # its supervised models have no character n-grams

    words, labels, pruned = _read_dictionary(parts)
    (quantized,) = parts.numbers("<B", "input matrix")
    if quantized == 1 or pruned:
        raise ValueError(f"{path}: quantized; expected the .bin that it was made from")
    if quantized:
        raise parts.damaged("the flag for quantization is neither 0 nor 1")
    try:
        settings = {name: arguments[name] for name in ("minn", "maxn", "word_ngrams", "bucket")}
        tokenizer = FastTextTokenizer(words, labels, **settings)
    except ValueError as error:
        raise parts.damaged(str(error)) from error
    inputs = parts.matrix(len(words) + bucket, dim, "input matrix")
    parts.numbers("<B", "output matrix")  # only matters for quantized models
    outputs = parts.matrix(len(labels), dim, "output matrix")
    if all(label.startswith(LABEL_PREFIX) for label in labels):
        labels = [label.removeprefix(LABEL_PREFIX) for label in labels]
    return FastTextFile(labels, tokenizer, inputs, outputs, dim, loss)


def _read_dictionary(parts: _Parts) -> tuple[list[str], list[str], bool]:
    """Words, labels, and whether rows were pruned, as in quantized models only."""
    size, n_words, n_labels, _, pruned = parts.numbers("<3i2q", "dictionary")
    if n_words < 0 or n_labels < 1 or size != n_words + n_labels:
        raise parts.damaged(f"a dictionary of {n_words} words and {n_labels} labels")
    parts.need(10 * size, "dictionary")
    words, labels = [], []
    for i in range(size):
        entry, kind = parts.entry()
        if kind != (i >= n_words):
            raise parts.damaged(f"entry {i} of the dictionary has kind {kind}")
        if i < n_words:
            words.append(entry.decode("utf-8", "surrogateescape"))
        else:
            try:
                labels.append(entry.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise parts.damaged(f"label {i - n_words} is not UTF-8") from error
    if pruned >= 0:
        parts.need(8 * pruned, "dictionary")
        parts.at += 8 * pruned
    return words, labels, pruned >= 0
