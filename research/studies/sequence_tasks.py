"""Tasks over sequences of a chosen length: synthetic ones, drawn without end, and real ones.

A synthetic task asks at its last positions; a real one has one label for the whole row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hyperagg.data import Split, load_dataset
from hyperagg.data.datasets.digits import AudioClips, load_fsdd
from hyperagg.text import WordTokenizer

__all__ = ["TASKS", "RealTask", "Rows", "SyntheticTask", "expression", "value"]


class Rows(NamedTuple):
    """Inputs and labels of a task.

    Args:
        inputs: (B, N) int64 tokens, or (B, N, patch_size) float32 patches of audio.
        lengths: (B,) tokens per row; the rest of a row is padding.
        labels: (B, targets) int64.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        """Select rows."""
        return Rows(*(part[rows] for part in self))


# n and a generator -> n tokens and the labels of one row.
Draw = Callable[[int, np.random.Generator], tuple[list[int], list[int]]]


@dataclass(frozen=True)
class SyntheticTask:
    """A task whose rows are drawn at random.

    Args:
        draw: (n, rng) -> n tokens and `targets` labels of one row.
        vocab_size: n -> vocabulary size for rows of n tokens.
        classes, targets: number of classes, and of positions per row to predict.
        dimensions, lengths: values of d and n in the study.
        draw_test: draws the test rows; None (default) means `draw`.
    """

    draw: Draw
    vocab_size: Callable[[int], int]
    classes: int
    targets: int
    dimensions: tuple[int, ...] = (8, 32)
    lengths: tuple[int, ...] = (32, 128)
    draw_test: Draw | None = None

    def rows(self, n: int, rows: int, rng: np.random.Generator) -> Rows:
        """Draw rows for training and validation, of n tokens."""
        return _collect([self.draw(n, rng) for _ in range(rows)])

    def test_rows(self, n: int, rows: int, rng: np.random.Generator) -> Rows:
        """Draw test rows, which may be longer."""
        draw = self.draw_test or self.draw
        return _collect([draw(n, rng) for _ in range(rows)])


def _collect(drawn: list[tuple[list[int], list[int]]]) -> Rows:
    tokens = np.array([tokens for tokens, _ in drawn], dtype=np.int64)
    labels = np.array([labels for _, labels in drawn], dtype=np.int64)
    return Rows(tokens, np.full(len(tokens), tokens.shape[1]), labels)


@dataclass(frozen=True)
class RealTask:
    """A task of a data set.

    Args:
        load: n -> training rows and test rows, truncated to n.
        vocab_size: vocabulary size; 0 for audio.
        classes: number of classes.
        lengths, dimensions: values of n and d in the study.
        patch_size: audio samples per token; 0 for text.
    """

    load: Callable[[int], tuple[Rows, Rows]]
    vocab_size: int
    classes: int
    lengths: tuple[int, ...]
    patch_size: int = 0
    dimensions: tuple[int, ...] = (32,)


# Synthetic tasks. Token 0 is filler.

_QUERIES, _VALUES, _SYMBOLS, _COUNTED, _MAX_COUNT = 8, 16, 16, 4, 8


def recall(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw alternating keys and values, then eight of the keys; the labels are their values."""
    pairs = (n - _QUERIES) // 2
    keys = rng.permutation(n)[:pairs]
    values = rng.integers(0, _VALUES, pairs)
    queries = rng.integers(0, pairs, _QUERIES)
    tokens = [0] * (n - _QUERIES - 2 * pairs)
    for key, stored in zip(keys.tolist(), values.tolist()):
        tokens += [1 + _VALUES + key, 1 + stored]
    return tokens + (1 + _VALUES + keys[queries]).tolist(), values[queries].tolist()


def copying(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw eight symbols, filler, and eight positions at the end at which to repeat them."""
    symbols = rng.integers(0, _SYMBOLS, _QUERIES).tolist()
    filler = [0] * (n - 2 * _QUERIES)
    return [2 + s for s in symbols] + filler + [1] * _QUERIES, symbols


def counting(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw up to seven of each of four symbols among filler; the last token asks for a count."""
    counts = rng.integers(0, _MAX_COUNT, _COUNTED)
    tokens = np.zeros(n - 1, dtype=np.int64)
    marks = np.repeat(np.arange(_COUNTED), counts) + 1
    tokens[rng.permutation(n - 1)[: len(marks)]] = marks
    query = int(rng.integers(0, _COUNTED))
    return [*tokens.tolist(), 1 + _COUNTED + query], [int(counts[query])]


def parity(
    n: int, rng: np.random.Generator, shortest: int = _QUERIES
) -> tuple[list[int], list[int]]:
    """Draw filler and then bits; the labels are the parities up to each of the last eight bits."""
    bits = rng.integers(0, 2, rng.integers(shortest, n + 1))
    parities = bits.cumsum() % 2
    return [0] * (n - len(bits)) + (1 + bits).tolist(), parities[-_QUERIES:].tolist()


def long_parity(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw n + 1 to 2 n bits, more than `parity` does."""
    return parity(2 * n, rng, n + 1)


# ListOps: digits are tokens 1-10, an operation with its bracket 11-14, the closing bracket 15.
_OPERATIONS: tuple[Callable[[list[int]], int], ...] = (
    max,
    min,
    lambda values: int(np.median(values)),
    lambda values: sum(values) % 10,
)
_CLOSE, _QUERY, _MAX_DEPTH = 15, 16, 5


def expression(max_tokens: int, rng: np.random.Generator, depth: int = 0) -> list[int]:
    """Draw a nested expression of at most `max_tokens` tokens."""
    if max_tokens < 4 or depth >= _MAX_DEPTH or (depth > 0 and rng.random() < 0.6):
        return [1 + int(rng.integers(0, 10))]
    tokens = [11 + int(rng.integers(0, 4))]
    arguments = min(int(rng.integers(2, 6)), max_tokens - 2)
    for remaining in range(arguments, 0, -1):
        # Each remaining argument takes at least one token, and the bracket takes one.
        tokens += expression(max_tokens - len(tokens) - remaining, rng, depth + 1)
    return [*tokens, _CLOSE]


def value(tokens: list[int]) -> int:
    """Evaluate an expression."""
    stack: list[list[int]] = [[]]
    operations: list[int] = []
    for token in tokens:
        if token <= 10:
            stack[-1].append(token - 1)
        elif token < _CLOSE:
            operations.append(token - 11)
            stack.append([])
        else:
            result = _OPERATIONS[operations.pop()](stack.pop())
            stack[-1].append(result)
    return stack[0][0]


def listops(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw nested MAX, MIN, MED and sums modulo 10 of digits, of at least n / 4 tokens."""
    while len(tokens := expression(n - 1, rng)) < n // 4:
        pass
    return [0] * (n - 1 - len(tokens)) + [*tokens, _QUERY], [value(tokens)]


# Real tasks.

_WORDS = 5_000


def _texts(name: str) -> Callable[[int], tuple[Rows, Rows]]:
    def load(n: int) -> tuple[Rows, Rows]:
        data = load_dataset(name)
        words = WordTokenizer.train(data.train.texts, max_words=_WORDS - 2)
        classes = sorted({str(label) for label in data.train.labels})

        def rows(split: Split) -> Rows:
            ids = words.encode(split.texts).truncate(n)
            labels = np.array([classes.index(str(label)) for label in split.labels])
            # An empty text keeps one padding token.
            return Rows(
                ids.padded(n).astype(np.int64), ids.lengths.clip(min=1).astype(int), labels[:, None]
            )

        return rows(data.train), rows(data.test)

    return load


_PATCH_SIZE = 16


def _audio(n: int) -> tuple[Rows, Rows]:
    """Raw samples, divided by their root mean square."""
    data = load_fsdd()

    def rows(split: AudioClips) -> Rows:
        positions = n // _PATCH_SIZE
        samples = np.zeros((len(split), positions * _PATCH_SIZE), dtype=np.float32)
        for i in range(len(split)):
            clip = split[i][: samples.shape[1]].astype(np.float32)
            samples[i, : len(clip)] = clip / max(1.0, float(np.sqrt((clip**2).mean())))
        lengths = np.minimum(-(-np.diff(split.offsets) // _PATCH_SIZE), positions)
        inputs = samples.reshape(len(split), positions, _PATCH_SIZE)
        return Rows(inputs, lengths, split.labels[:, None])

    return rows(data.train), rows(data.test)


TASKS: dict[str, SyntheticTask | RealTask] = {
    "recall": SyntheticTask(recall, lambda n: 1 + _VALUES + n, _VALUES, _QUERIES, (8, 16, 32)),
    "copying": SyntheticTask(copying, lambda n: 2 + _SYMBOLS, _SYMBOLS, _QUERIES),
    "counting": SyntheticTask(counting, lambda n: 1 + 2 * _COUNTED, _MAX_COUNT, 1),
    "parity": SyntheticTask(parity, lambda n: 3, 2, _QUERIES, lengths=(32,), draw_test=long_parity),
    "listops": SyntheticTask(listops, lambda n: 1 + _QUERY, 10, 1),
    "reuters": RealTask(_texts("reuters"), _WORDS, 46, (64, 256)),
    "imdb": RealTask(_texts("imdb"), _WORDS, 2, (64, 256, 1024)),
    "fsdd": RealTask(_audio, 0, 10, (2000, 8000), _PATCH_SIZE),
}
