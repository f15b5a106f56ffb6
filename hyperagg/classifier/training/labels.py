"""Texts and labels as users give them: checked, and labels as numbers of classes.

A label is a str or an int. A document has one, or where documents have several, a list, tuple or
set of any number of them.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from reprlib import repr as shorten
from typing import Any

import numpy as np

from hyperagg._common.label_decoder import Label
from hyperagg.text import Ragged

__all__ = [
    "Label",
    "Labels",
    "are_several",
    "check_classes",
    "check_labelled",
    "check_texts",
    "class_weights",
    "distinct",
    "encode_labels",
    "enumerate_labels",
    "first_classes",
]

Labels = Sequence[Label] | Sequence[tuple[Label, ...]]


def check_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    checked = _as_list(texts, name)
    if _all_of(checked, str):
        return checked
    for i, text in enumerate(checked):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}]: {shorten(text)} is {type(text).__name__}; give str")
    return checked


def check_labelled(
    texts: Iterable[str], labels: Iterable[Any], part: str = ""
) -> tuple[list[str], Labels]:
    """Lists of both, the labels as Python's own str and int, which compare and save alike."""
    texts, labels = check_texts(texts, f"{part}texts"), _as_list(labels, f"{part}labels")
    if len(texts) != len(labels):
        raise ValueError(
            f"{part}labels: {len(labels)} of them for {len(texts)} texts; give one a text"
        )
    if not texts:
        raise ValueError(f"{part}texts: there are none; give at least one")
    if _all_of(labels, str, int):
        return texts, labels
    several = _holds_labels(labels[0])
    checked: list[Any] = []
    for i, label in enumerate(labels):
        name = f"{part}labels[{i}]"
        if not several:
            checked.append(_check_label(label, name))
        elif _holds_labels(label):
            checked.append(tuple(dict.fromkeys(_check_label(one, name) for one in label)))
        else:
            raise TypeError(f"{name}: {shorten(label)} is one label; others here are lists of them")
    return texts, checked


def are_several(labels: Labels) -> bool:
    """Whether each document has a tuple of labels."""
    return bool(labels) and isinstance(labels[0], tuple)


def distinct(labels: Labels) -> list[Label]:
    """The different ones, sorted: numbers, then strings."""
    given: Any = labels
    found: set[Label] = set(chain.from_iterable(given) if are_several(labels) else given)
    return sorted(found, key=lambda label: (isinstance(label, str), label))


def encode_labels(labels: Labels, classes: Sequence[Label], name: str) -> Ragged:
    """The classes of each document, by number.

    Raises:
        ValueError: a label that is none of the classes.
    """
    numbers_of = {label: c for c, label in enumerate(classes)}
    rows: Any = labels if are_several(labels) else list(zip(labels))
    borders = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(list(map(len, rows)), out=borders[1:])
    try:
        ids = list(map(numbers_of.__getitem__, chain.from_iterable(rows)))
    except KeyError:
        i, unknown = next(
            (i, label) for i, own in enumerate(rows) for label in own if label not in numbers_of
        )
        raise ValueError(
            f"{name}[{i}]: {unknown!r} was not there in training; the labels are "
            f"{enumerate_labels(classes)}"
        ) from None
    return Ragged(np.array(ids, dtype=np.int32), borders)


def first_classes(targets: Ragged) -> np.ndarray:
    """(rows,) the first class id of each row; -1 for a row without one."""
    classes = np.full(len(targets), -1)
    labelled = targets.lengths > 0
    classes[labelled] = targets.token_ids[targets.cu_seqlens[:-1][labelled]]
    return classes


def class_weights(asked: Any, labels: Labels, classes: Sequence[Label]) -> np.ndarray:
    """(C,) float32, on average 1 a label."""
    if asked is None:
        return np.ones(len(classes), dtype=np.float32)
    if asked == "balanced":
        counts = np.bincount(encode_labels(labels, classes, "labels").token_ids)
        return (counts.sum() / (len(classes) * counts)).astype(np.float32)
    if not isinstance(asked, Mapping):
        raise TypeError(f'class_weight={shorten(asked)}: give "balanced" or {{label: weight}}')
    for label, weight in asked.items():
        if label not in classes:
            raise ValueError(f"class_weight: {label!r} is none of the labels")
        if not isinstance(weight, float | int) or not 0 < weight < float("inf"):
            raise ValueError(f"class_weight: {label!r} has {weight!r}; give a number above 0")
    return np.array([asked.get(label, 1.0) for label in classes], dtype=np.float32)


def check_classes(classes: object) -> list[Label]:
    """What a model's config says its classes are."""
    if (
        not isinstance(classes, list)
        or not all(isinstance(label, str | int) for label in classes)
        or len(set(classes)) != len(classes)
        or len(classes) < 2
    ):
        raise ValueError("classes are no list of different labels")
    return classes


def enumerate_labels(labels: Sequence[Label], most: int = 10) -> str:
    named = ", ".join(repr(label) for label in labels[:most])
    return named if len(labels) <= most else f"{named} and {len(labels) - most} more"


def _holds_labels(label: object) -> bool:
    return isinstance(label, list | tuple | Set | np.ndarray)


def _all_of(values: list[Any], *types: type) -> bool:
    """Whether no value is of another type; asked of all at once, since a loop over a hundred
    thousand rows costs as much as an epoch."""
    return set(map(type, values)) <= set(types)


def _check_label(label: object, name: str) -> Label:
    if isinstance(label, str):
        return str(label)
    if isinstance(label, numbers.Integral):
        return int(label)
    raise TypeError(f"{name}: {shorten(label)} is {type(label).__name__}; give str or int")


def _as_list(values: Iterable[Any], name: str) -> list[Any]:
    """Of an array, a column or a generator as well; not of what only looks like a sequence."""
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, str):
        raise TypeError(f"{name}: is a str; give a list, even if it is of one")
    if isinstance(values, bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: is {type(values).__name__}; give a list")
    return list(values)
