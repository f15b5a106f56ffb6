"""Tasks over sequences of a chosen length: made up ones, of which there is no end, and real ones.

A made up task asks at its last places; a real one asks once for the whole row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hyperagg.data import Split, load_dataset
from hyperagg.data.datasets.digits import AudioClips, load_fsdd
from hyperagg.text import WordTokenizer

__all__ = ["TASKS", "MadeUp", "Real", "Rows", "expression", "value"]


class Rows(NamedTuple):
    """What is read, and what is to be answered.

    Args:
        inputs: (B, N) int64 tokens, or (B, N, patch) float32 stretches of a sound.
        lengths: (B,) tokens of each row; what stands to the right of them is padding.
        labels: (B, answers) int64.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        return Rows(*(part[rows] for part in self))


@dataclass(frozen=True)
class MadeUp:
    """A task whose rows are drawn: `draw(n, rng)` gives one row's tokens and its last answers.

    Args:
        draw: (n, rng) -> n tokens, `answers` labels.
        vocabulary: how many tokens there are for rows of n.
        classes, answers: how many labels there are, and how many places of a row are asked.
        dimensions, lengths: d and n of the study.
    """

    draw: Callable[[int, np.random.Generator], tuple[list[int], list[int]]]
    vocabulary: Callable[[int], int]
    classes: int
    answers: int
    dimensions: tuple[int, ...] = (8, 32)
    lengths: tuple[int, ...] = (32, 128)

    def rows(self, n: int, rows: int, rng: np.random.Generator) -> Rows:
        drawn = [self.draw(n, rng) for _ in range(rows)]
        tokens = np.array([tokens for tokens, _ in drawn], dtype=np.int64)
        labels = np.array([labels for _, labels in drawn], dtype=np.int64)
        return Rows(tokens, np.full(rows, n), labels)


@dataclass(frozen=True)
class Real:
    """A task of a data set; `load(n)` gives its training and its test rows, cut to n.

    Args:
        load: n -> training rows, test rows.
        vocabulary: tokens; or of sounds 0.
        patch: samples that a linear stem makes a token of; 0 for tokens.
    """

    load: Callable[[int], tuple[Rows, Rows]]
    vocabulary: int
    classes: int
    lengths: tuple[int, ...]
    patch: int = 0
    dimensions: tuple[int, ...] = (32,)


# Made up. Token 0 is filler.

_ASKED, _VALUES, _SYMBOLS, _COUNTED, _MOST = 8, 16, 16, 4, 8


def recall(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Keys and values in turn, then eight of the keys: the value of each."""
    pairs = (n - _ASKED) // 2
    keys = rng.permutation(n)[:pairs]
    values = rng.integers(0, _VALUES, pairs)
    asked = rng.integers(0, pairs, _ASKED)
    tokens = [0] * (n - _ASKED - 2 * pairs)
    for key, held in zip(keys.tolist(), values.tolist()):
        tokens += [1 + _VALUES + key, 1 + held]
    return tokens + (1 + _VALUES + keys[asked]).tolist(), values[asked].tolist()


def copying(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Eight symbols, filler, and eight places at the end where they are to be repeated."""
    symbols = rng.integers(0, _SYMBOLS, _ASKED).tolist()
    filler = [0] * (n - 2 * _ASKED)
    return [2 + s for s in symbols] + filler + [1] * _ASKED, symbols


def counting(n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Up to seven of each of four symbols among filler; at the end one is named: how many?"""
    counts = rng.integers(0, _MOST, _COUNTED)
    tokens = np.zeros(n - 1, dtype=np.int64)
    marks = np.repeat(np.arange(_COUNTED), counts) + 1
    tokens[rng.permutation(n - 1)[: len(marks)]] = marks
    asked = int(rng.integers(0, _COUNTED))
    return [*tokens.tolist(), 1 + _COUNTED + asked], [int(counts[asked])]


# ListOps: digits are tokens 1-10, an operation with its bracket 11-14, the closing bracket 15.
_OPERATIONS: tuple[Callable[[list[int]], int], ...] = (
    max,
    min,
    lambda values: int(np.median(values)),
    lambda values: sum(values) % 10,
)
_CLOSE, _ASK, _DEEPEST = 15, 16, 5


def expression(most: int, rng: np.random.Generator, depth: int = 0) -> list[int]:
    """Tokens of a nested expression, at most `most` of them."""
    if most < 4 or depth >= _DEEPEST or (depth > 0 and rng.random() < 0.6):
        return [1 + int(rng.integers(0, 10))]
    tokens, arguments = [11 + int(rng.integers(0, 4))], min(int(rng.integers(2, 6)), most - 2)
    for left in range(arguments, 0, -1):
        # Each of the others takes a token at least, and the bracket one.
        tokens += expression(most - len(tokens) - left, rng, depth + 1)
    return [*tokens, _CLOSE]


def value(tokens: list[int]) -> int:
    """What an expression is worth."""
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
    """Nested MAX, MIN, MED and sums modulo 10 of digits, of n / 4 tokens or more."""
    while len(tokens := expression(n - 1, rng)) < n // 4:
        pass
    return [0] * (n - 1 - len(tokens)) + [*tokens, _ASK], [value(tokens)]


# Real.

_WORDS = 5_000


def _texts(name: str) -> Callable[[int], tuple[Rows, Rows]]:
    def load(n: int) -> tuple[Rows, Rows]:
        data = load_dataset(name)
        words = WordTokenizer.train(data.train.texts, max_words=_WORDS - 2)
        classes = sorted({str(label) for label in data.train.labels})

        def rows(split: Split) -> Rows:
            ids = words.encode(split.texts).truncate(n)
            labels = np.array([classes.index(str(label)) for label in split.labels])
            # An empty text has one token, which stands for nothing.
            return Rows(
                ids.padded(n).astype(np.int64), ids.lengths.clip(min=1).astype(int), labels[:, None]
            )

        return rows(data.train), rows(data.test)

    return load


def _sounds(n: int) -> tuple[Rows, Rows]:
    """Samples as they were recorded, over their root mean square."""
    data, patch = load_fsdd(), TASKS["fsdd"].patch  # type: ignore[union-attr]

    def rows(split: AudioClips) -> Rows:
        sounds = np.zeros((len(split), n // patch * patch), dtype=np.float32)
        for i in range(len(split)):
            sound = split[i][: sounds.shape[1]].astype(np.float32)
            sounds[i, : len(sound)] = sound / max(1.0, float(np.sqrt((sound**2).mean())))
        lengths = np.minimum(-(-np.diff(split.offsets) // patch), n // patch)
        return Rows(sounds.reshape(len(split), -1, patch), lengths, split.labels[:, None])

    return rows(data.train), rows(data.test)


TASKS: dict[str, MadeUp | Real] = {
    "recall": MadeUp(recall, lambda n: 1 + _VALUES + n, _VALUES, _ASKED, (8, 16, 32)),
    "copying": MadeUp(copying, lambda n: 2 + _SYMBOLS, _SYMBOLS, _ASKED),
    "counting": MadeUp(counting, lambda n: 1 + 2 * _COUNTED, _MOST, 1),
    "listops": MadeUp(listops, lambda n: 1 + _ASK, 10, 1),
    "reuters": Real(_texts("reuters"), _WORDS, 46, (64, 256)),
    "imdb": Real(_texts("imdb"), _WORDS, 2, (64, 256, 1024)),
    "fsdd": Real(_sounds, 0, 10, (2000, 8000), patch=16),
}
