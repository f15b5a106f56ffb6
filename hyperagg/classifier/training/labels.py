"""Checks the texts and labels that users pass, and encodes labels as class ids.

A label is a str or an int. A text has one label; in a multi-label problem it has a list, tuple, set
or array of any number of labels.

Refused, since each of them would become another label than the user means: True and False, floats
(also whole ones), None and NaN, tables of one column, and rows of 0 and 1 that indicate labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from reprlib import repr as shorten
from typing import Any

import numpy as np

from hyperagg._common.columns import describe, to_label, to_list
from hyperagg._common.label_decoder import Label
from hyperagg._common.validation import check_real
from hyperagg.text import Ragged

__all__ = [
    "ClassWeight",
    "Label",
    "Labels",
    "check_class_weight",
    "check_classes",
    "check_distinct",
    "check_label",
    "check_label_kind",
    "check_labeled_texts",
    "check_sample_weight",
    "check_spelling",
    "check_texts",
    "check_validation",
    "class_weights",
    "encode_labels",
    "first_classes",
    "is_multi_label",
    "parse_labels",
    "summarize_labels",
    "unique_labels",
]

Labels = Sequence[Label] | Sequence[tuple[Label, ...]]
ClassWeight = str | Mapping[Label, float] | None

MAX_WEIGHT = 1e6
_MAX_LABEL_LENGTH = 2**16
_WHOLE_NUMBER = re.compile(r"^([+-]?\d+)\.0+$")
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_texts(X: Iterable[str], name: str = "X", expected: str = "a list of str") -> list[str]:
    """Return a list of str, given any sequence, column or generator of str.

    `expected` is what errors say that the caller accepts.

    Raises:
        TypeError: an entry is not a str, or X is a table or another type.
    """
    texts = to_list(X, name, expected)
    if _all_of(texts, str):
        return texts
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}]: expected str, got {describe(text)}")
    return texts


def check_labeled_texts(
    X: Iterable[str], y: Iterable[Any], prefix: str = ""
) -> tuple[list[str], Labels]:
    """Return texts and labels as lists; the labels as Python's str and int, or tuples of them.

    `prefix` goes before the names X and y in errors.

    Raises:
        TypeError: an entry of X is not a str, or one of y is not a label.
        ValueError: the lengths differ or are 0.
    """
    texts, labels = check_texts(X, f"{prefix}X"), to_list(y, f"{prefix}y")
    if len(texts) != len(labels):
        raise ValueError(
            f"{prefix}y: expected one label per text in X, got {len(labels):,} for {len(texts):,}"
        )
    if not texts:
        raise ValueError(f"{prefix}X: expected at least one text, got none")
    if _all_of(labels, str, int):
        return texts, labels
    multi_label = _is_collection(labels[0])
    if multi_label:
        labels = [_to_row(label) for label in labels]
        _refuse_indicators(labels, f"{prefix}y")
    checked: list[Any] = []
    for i, label in enumerate(labels):
        name = f"{prefix}y[{i}]"
        if not multi_label:
            checked.append(to_label(label, name))
        elif _is_collection(label):
            own = list(dict.fromkeys(to_label(one, name) for one in label))
            # The order of a set of strings differs between processes.
            checked.append(tuple(sorted(own, key=_sort_key) if isinstance(label, Set) else own))
        else:
            raise TypeError(
                f"{name}: expected a list of labels, as in the rows before, got {describe(label)}"
            )
    return texts, checked


def check_sample_weight(sample_weight: Any, num_texts: int) -> np.ndarray | None:
    """Return (num_texts,) float32 weights, or None if none are given.

    Raises:
        TypeError, ValueError: they are not `num_texts` numbers from 0 to 1e6, at least one of them
            greater than 0.
    """
    if sample_weight is None:
        return None
    try:
        values = np.asarray(to_list(sample_weight, "sample_weight"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError("sample_weight: expected a list of numbers, one per text") from error
    if values.ndim != 1:
        raise ValueError(f"sample_weight: expected one number per text, got shape {values.shape}")
    if values.shape != (num_texts,):
        raise ValueError(
            f"sample_weight: expected one number per text, got {len(values):,} for {num_texts:,}"
        )
    with np.errstate(over="ignore"):
        weights = values.astype(np.float32)
    wrong = np.flatnonzero(~((weights >= 0) & (weights <= MAX_WEIGHT)))
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"sample_weight[{i}]: expected a number from 0 to {MAX_WEIGHT:g}, got {values[i]:g}"
        )
    if not weights.any():
        raise ValueError("sample_weight: expected at least one number > 0, got zeros only")
    return weights


def check_validation(validation: Any, multi_label: bool) -> tuple[list[str], Labels]:
    """Return the texts and labels of a pair of both.

    Raises:
        TypeError, ValueError: it is not a pair, or as `check_labeled_texts` and `check_label_kind`.
    """
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise TypeError("validation: expected a pair of texts and labels")
    texts, labels = check_labeled_texts(validation[0], validation[1], "validation ")
    check_label_kind(labels, multi_label, "validation y")
    return texts, labels


def check_label_kind(labels: Labels, multi_label: bool, name: str = "y") -> None:
    """Raise TypeError unless every text has one label, or a list of them if `multi_label`."""
    if is_multi_label(labels) != multi_label:
        expected = "a list of labels" if multi_label else "one label"
        raise TypeError(f"{name}: expected {expected} per text, as in training")


def check_label(label: object, name: str) -> Label:
    """Return a label that can be saved.

    Raises:
        TypeError: it is not a str or an int.
        ValueError: it is too large, or is not Unicode.
    """
    checked = to_label(label, name)
    if isinstance(checked, int):
        if not -(2**63) <= checked < 2**64:
            raise ValueError(f"{name}: expected an int of at most 64 bits, got {shorten(checked)}")
    elif len(checked) > _MAX_LABEL_LENGTH:
        raise ValueError(
            f"{name}: expected at most {_MAX_LABEL_LENGTH:,} characters, got {len(checked):,}"
        )
    elif _SURROGATE.search(checked):
        raise ValueError(f"{name}: {shorten(checked)} has a surrogate, which UTF-8 cannot encode")
    return checked


def check_classes(labels: Labels, at_least: int = 2) -> list[Label]:
    """Return the distinct labels, sorted as by `unique_labels`.

    Raises:
        ValueError: there are fewer than `at_least`, one of them cannot be saved, or two of them
            read the same.
    """
    classes = [check_label(label, "y") for label in unique_labels(labels)]
    check_distinct(classes)
    if len(classes) < at_least:
        found = f"got only {classes[0]!r}" if classes else "got none"
        raise ValueError(f"y: expected at least two distinct labels, {found}")
    return classes


def check_distinct(classes: Sequence[Label]) -> None:
    """Raise ValueError if two classes differ only in type or in the white space around them."""
    names: dict[str, Label] = {}
    for label in classes:
        other = names.setdefault(str(label).strip(), label)
        if other != label:
            raise ValueError(
                f"y: the labels {shorten(other)} and {shorten(label)} read the same; expected "
                "labels that differ in more than type and white space"
            )


def is_multi_label(labels: Labels) -> bool:
    """Return whether every text has a tuple of labels."""
    return bool(labels) and isinstance(labels[0], tuple)


def unique_labels(labels: Labels) -> list[Label]:
    """Return the distinct labels, sorted: integers first, then strings."""
    given: Any = labels
    found: set[Label] = set(chain.from_iterable(given) if is_multi_label(labels) else given)
    return sorted(found, key=_sort_key)


def parse_labels(labels: Labels, classes: Sequence[Label]) -> Labels:
    """Convert labels that are strings, as files have them, to those of the classes that read so.

    A label that is not one of the classes is converted to the one that is equal but for white space
    around it, 1 written as 1.0, or true written as True.
    """
    by_name = {str(label): label for label in classes}
    normalized = {_normalize(label): label for label in classes}
    if len(normalized) < len(classes):  # "1" and "1.0" may be two of the classes
        normalized = {}

    def parse(label: Any) -> Any:
        name = str(label)
        return by_name.get(name, normalized.get(_normalize(name), label))

    rows: Any = labels
    return [tuple(map(parse, row)) if _is_collection(row) else parse(row) for row in rows]


def encode_labels(labels: Labels, classes: Sequence[Label], name: str = "y") -> Ragged:
    """Return the class ids of each text as ragged rows.

    Raises:
        ValueError: a label is not one of the classes; the message names `name` and its index.
    """
    ids_of = {label: c for c, label in enumerate(classes)}
    rows: Any = labels if is_multi_label(labels) else list(zip(labels))
    boundaries = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(list(map(len, rows)), out=boundaries[1:])
    try:
        ids = list(map(ids_of.__getitem__, chain.from_iterable(rows)))
    except KeyError:
        i, unknown = next(
            (i, label) for i, own in enumerate(rows) for label in own if label not in ids_of
        )
        raise _unknown_label(f"{name}[{i}]", unknown, classes) from None
    return Ragged(np.array(ids, dtype=np.int32), boundaries)


def check_spelling(labels: Labels, classes: Sequence[Label], name: str = "y") -> None:
    """Check that no label that is not a class reads the same as one.

    Raises:
        ValueError: one does, such as 1 where the class is "1".
    """
    rows: Any = labels if is_multi_label(labels) else [labels]
    for label in set(chain.from_iterable(rows)).difference(classes):
        if parse_labels([label], classes) != [label]:
            raise _unknown_label(name, label, classes)


def _unknown_label(where: str, label: Label, classes: Sequence[Label]) -> ValueError:
    [alike] = parse_labels([label], classes)
    hint = "" if alike == label else f"; parse_labels(y) converts it to {alike!r}"
    return ValueError(
        f"{where}: the label {label!r} did not occur in training; expected one of "
        f"{summarize_labels(classes)}{hint}"
    )


def first_classes(targets: Ragged) -> np.ndarray:
    """Return (rows,) the first class id of each row, -1 for a row without one."""
    classes = np.full(len(targets), -1)
    labeled = targets.lengths > 0
    classes[labeled] = targets.token_ids[targets.cu_seqlens[:-1][labeled]]
    return classes


def check_class_weight(class_weight: Any, classes: Sequence[Label]) -> ClassWeight:
    """Return None, "balanced", or a dict of labels and Python floats.

    Raises:
        TypeError, ValueError: it is none of these, or names a label that does not exist.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str) and class_weight == "balanced":
        return class_weight
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f'class_weight={shorten(class_weight)}: expected None, "balanced" or a dict of labels '
            "and weights"
        )
    checked: dict[Label, float] = {}
    for given, weight in class_weight.items():
        label = to_label(given, "class_weight")
        if label not in classes:
            raise ValueError(
                f"class_weight: the label {label!r} does not occur in y; expected labels out of "
                f"{summarize_labels(classes)}"
            )
        # Gradients are squared in float32.
        checked[label] = check_real(f"class_weight[{label!r}]", weight, 1e-6, MAX_WEIGHT)
    return checked


def class_weights(
    class_weight: ClassWeight, counts: np.ndarray, classes: Sequence[Label]
) -> np.ndarray:
    """Return the weight of each class, (C,) float32.

    Args:
        class_weight: as `check_class_weight` returns it. "balanced" is inversely proportional to
            the number of texts of each class and 1 on average over the texts; a class that a dict
            does not name has weight 1.
        counts: (C,) the number of training texts of each class.
        classes: the labels.
    """
    if isinstance(class_weight, Mapping):
        return np.array([class_weight.get(label, 1.0) for label in classes], dtype=np.float32)
    if class_weight == "balanced":
        return (counts.sum() / (len(classes) * np.maximum(counts, 1))).astype(np.float32)
    return np.ones(len(classes), dtype=np.float32)


def summarize_labels(labels: Sequence[Label], maximum: int = 10) -> str:
    """Return the labels as a phrase; after the first `maximum` only their number."""
    named = ", ".join(repr(label) for label in labels[:maximum])
    return named if len(labels) <= maximum else f"{named} and {len(labels) - maximum} more"


def _is_collection(label: object) -> bool:
    """Whether this is a list of labels; polars and PyTorch have rows of their own types."""
    one = isinstance(label, str) or getattr(label, "shape", None) == ()
    return isinstance(label, list | tuple | Set) or (
        not one and (hasattr(label, "tolist") or hasattr(label, "to_list"))
    )


def _to_row(label: Any) -> Any:
    """Return a row of NumPy, polars or PyTorch as a list; other labels stay as they are."""
    return label if isinstance(label, Set) or not _is_collection(label) else to_list(label, "y")


def _refuse_indicators(labels: list[Any], name: str) -> None:
    """Raise TypeError for rows of 0 and 1 of one length, which would read as two labels."""
    width = len(labels[0])
    if width > 1 and all(
        isinstance(row, list) and len(row) == width and all(one in (0, 1) for one in row)
        for row in labels
    ):
        raise TypeError(
            f"{name}: expected the labels of each text as a list, got rows of {width} indicators; "
            "use [[c for c, on in enumerate(row) if on] for row in y]"
        )


def _normalize(label: Label) -> str:
    name = str(label).strip()
    if name in ("True", "TRUE", "False", "FALSE"):
        return name.lower()
    return _WHOLE_NUMBER.sub(r"\1", name)


def _sort_key(label: Label) -> tuple[bool, Label]:
    return isinstance(label, str), label


def _all_of(values: list[Any], *types: type) -> bool:
    """Whether every value has one of the types. A set is used because a loop over a hundred
    thousand rows takes as long as an epoch."""
    return set(map(type, values)) <= set(types)
