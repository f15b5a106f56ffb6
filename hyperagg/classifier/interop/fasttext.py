"""Reads the files of fastText: the .bin or .ftz of a supervised model, and a .vec table of vectors.

A model is little-endian and has no separators between its parts: signature, arguments, dictionary,
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
from typing import BinaryIO

import numpy as np

from hyperagg._common.regular_file import open_regular
from hyperagg.classifier.interop.fasttext_parts import Parts
from hyperagg.classifier.interop.fasttext_tokenizer import LABEL_PREFIX, FastTextTokenizer
from hyperagg.classifier.kernels.tree import huffman_tree

__all__ = ["FastTextFile", "read_fasttext", "read_vectors"]

_SIGNATURE, _VERSIONS = struct.pack("<i", 793712314), (11, 12)
_ARGUMENTS = (
    *("dim", "window", "epochs", "min_count", "negatives", "word_ngrams"),
    *("loss", "model", "bucket", "minn", "maxn", "update_rate", "sampling"),
)
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_HEADER = re.compile(rb"\d{1,18} [1-9]\d{0,8}\s*")
_MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}


@dataclass(frozen=True)
class FastTextFile:
    """Holds the content of a supervised model.

    The logits of a text are output @ input[tokenizer.encode([text]).token_ids].mean(0). The
    probabilities are their softmax; or if the loss is "ova" or "ns" the sigmoid of each, in steps
    of 1/32 of the logit; or if it is "hs" the softmax of `label_scores` in a tree.

    Attributes:
        labels: the labels without the prefix "__label__".
        tokenizer: maps texts to rows of `input`.
        input: (rows, dim) float32, the vectors of the words, then of the hash buckets of n-grams.
        output: (labels, dim) float32; if the loss is "hs" those of the nodes and an unused row.
        dim: the dimension of the vectors.
        loss: "softmax", "ova" (one-vs-all), "ns" (negative sampling) or "hs" (hierarchical
            softmax).
        tree: (labels - 1, 2) int32 if the loss is "hs", see `huffman_tree`.
    """

    labels: list[str]
    tokenizer: FastTextTokenizer
    input: np.ndarray
    output: np.ndarray
    dim: int
    loss: str
    tree: np.ndarray | None = None


def read_fasttext(path: str | Path) -> FastTextFile:
    """Read a supervised model that fastText saved, in format version 11 or 12.

    Product-quantized matrices become float32, and keep what quantization made of their values.

    Args:
        path: the .bin or .ftz file.

    Raises:
        ValueError: the file is not such a model, or is truncated or damaged.

    Cost: O(bytes), and memory for the matrices as float32 and the dictionary. With fastText's
    default of two columns per code, a quantized matrix becomes eight times as large.

    Source: Joulin et al. (2017), "Bag of Tricks for Efficient Text Classification", and Joulin et
    al. (2016), "FastText.zip: Compressing text classification models".
    """
    path = Path(path)
    with _open_model(path) as file:
        if file.read(4) != _SIGNATURE:
            raise ValueError(
                f"{path}: not a fastText model; expected the .bin or .ftz that fastText saved"
            )
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _read(Parts(path, file, data, len(_SIGNATURE)))


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
def _open_model(path: Path) -> Iterator[BinaryIO]:
    # A pipe cannot be mapped; a table of vectors may come from one.
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(parts: Parts) -> FastTextFile:
    path = parts.path
    (version,) = parts.numbers("<i", "signature")
    if version not in _VERSIONS:
        raise ValueError(f"{path}: format version {version}; expected 11 or 12")
    arguments = dict(zip(_ARGUMENTS, parts.numbers("<12id", "arguments")))
    kind, loss = _MODELS.get(arguments["model"]), _LOSSES.get(arguments["loss"])
    dim = arguments["dim"]
    if kind is None or loss is None or dim < 1:
        raise parts.damaged("fastText does not write such arguments")
    if kind != "supervised":
        raise ValueError(
            f"{path}: a model of word vectors ({kind}) without labels; expected a supervised "
            "model, or the .vec table of these vectors in read_vectors"
        )
    if version == 11:
        arguments["maxn"] = 0  # its supervised models have no character n-grams

    words, labels, counts, kept = _read_dictionary(parts, arguments["bucket"])
    quantized = parts.flag("quantization", "input matrix")
    if kept is not None and not quantized:
        raise parts.damaged("its dictionary is pruned, but its input matrix is not quantized")
    try:
        settings = {name: arguments[name] for name in ("minn", "maxn", "word_ngrams", "bucket")}
        tokenizer = FastTextTokenizer(words, labels, **settings, kept_buckets=kept)
        tree = huffman_tree(counts) if loss == "hs" and len(labels) > 1 else None
    except ValueError as error:
        raise parts.damaged(str(error)) from error

    def matrix(rows: int, part: str, quantized: bool) -> np.ndarray:
        read = parts.quantized_matrix if quantized else parts.matrix
        return read(rows, dim, part)

    inputs = matrix(len(tokenizer), "input matrix", quantized)
    # The flag of the output matrix only matters if the input matrix is quantized.
    quantized_output = parts.flag("quantization", "output matrix")
    outputs = matrix(len(labels), "output matrix", quantized and quantized_output)
    if all(label.startswith(LABEL_PREFIX) for label in labels):
        labels = [label.removeprefix(LABEL_PREFIX) for label in labels]
    return FastTextFile(labels, tokenizer, inputs, outputs, dim, loss, tree)


def _read_dictionary(
    parts: Parts, bucket: int
) -> tuple[list[str], list[str], list[int], list[int] | None]:
    """Words, labels, the counts of the labels, and of a pruned model the buckets that are kept, in
    the order of their rows."""
    size, n_words, n_labels, _, pruned = parts.numbers("<3i2q", "dictionary")
    if n_words < 0 or n_labels < 1 or size != n_words + n_labels:
        raise parts.damaged(f"a dictionary of {n_words} words and {n_labels} labels")
    parts.need(10 * size, "dictionary")
    words, labels, counts = [], [], []
    for i in range(size):
        entry, count, kind = parts.entry()
        if kind != (i >= n_words):
            raise parts.damaged(f"entry {i} of the dictionary has kind {kind}")
        if i < n_words:
            words.append(entry.decode("utf-8", "surrogateescape"))
        else:
            counts.append(count)
            try:
                labels.append(entry.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise parts.damaged(f"label {i - n_words} is not UTF-8") from error
    if pruned < 0:
        return words, labels, counts, None
    pairs = parts.array("<i4", 2 * pruned, "dictionary").reshape(pruned, 2)
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    if not np.array_equal(pairs[:, 1], np.arange(pruned)):
        raise parts.damaged("the rows of the pruned n-grams are not numbered from 0")
    return words, labels, counts, pairs[:, 0].tolist()
