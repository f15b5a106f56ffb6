"""Turns the columns and labels that users pass into Python's lists, strings and integers.

A column is a list, a tuple, a generator, or a column of NumPy, pandas, polars, Arrow or PyTorch.
None of these libraries is imported here: each column converts itself.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from reprlib import repr as shorten
from typing import Any

from hyperagg._common.label_decoder import Label

__all__ = ["describe", "to_label", "to_list"]

# Arrow, polars, and NumPy, pandas and PyTorch. Iterating over some of these columns would give
# scalars of their own types.
_CONVERSIONS = "to_pylist", "to_list", "tolist"


def to_list(values: Any, name: str, expected: str = "a list") -> list[Any]:
    """Return the entries of a column as a list; errors call it `name` and say what is `expected`.

    Raises:
        TypeError: the values are a table, which may have a single column, or not a column.

    Example:
        >>> import numpy as np
        >>> to_list(np.array(["a", "b"]), "X")
        ['a', 'b']
    """
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, str):
        raise TypeError(f"{name}: expected {expected}, got a single str")
    shape = getattr(values, "shape", None)
    is_table = isinstance(shape, tuple) and len(shape) > 1
    # The property itself would make a lazy frame compute its schema.
    if is_table or hasattr(type(values), "columns") or _field_names(values):
        raise TypeError(f"{name}: expected one column, got {_describe_table(values, name)}")
    if isinstance(values, Iterable) and shape == ():
        raise TypeError(f"{name}: expected {expected}, got a 0-d array ({shorten(values)})")
    if isinstance(values, bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected {expected}, got {type(values).__name__}")
    for method in _CONVERSIONS:
        if callable(convert := getattr(values, method, None)):
            return list(convert())
    return list(values)


def to_label(value: object, name: str) -> Label:
    """Return a label as Python's str or int; a member of a (str, Enum) is its value.

    Raises:
        TypeError: the value is of another type; the message says how to convert it.

    Example:
        >>> import numpy as np
        >>> to_label(np.int64(3), "y[0]")
        3
    """
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum, str() would give the name of the member
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    remedy = ""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        remedy = "; convert it with str() or int()"
    elif value is None or type(value).__name__ in ("NAType", "NaTType"):
        remedy = "; leave out rows without a label"
    elif isinstance(value, numbers.Real):
        number = float(value)
        remedy = "; leave out rows without a label" if math.isnan(number) else ""
        remedy = "; convert whole numbers with int()" if number.is_integer() else remedy
    elif isinstance(value, Enum):
        remedy = "; use its .value"
    elif isinstance(value, bytes):
        remedy = "; decode it"
    raise TypeError(f"{name}: expected a label (str or int), got {describe(value)}{remedy}")


def describe(value: object) -> str:
    """Return the type of a value and its shortened representation."""
    return f"{type(value).__name__} ({shorten(value)})"


def _field_names(values: Any) -> tuple[str, ...] | None:
    """Return the names of the fields of a structured array, whose rows are tuples."""
    return getattr(getattr(values, "dtype", None), "names", None)


def _describe_table(values: Any, name: str) -> str:
    """Return what a table is and what to pass instead."""
    shape = getattr(values, "shape", None)
    if not (isinstance(shape, tuple) and len(shape) > 1):
        return f'a table ({type(values).__name__}); name the column, as in table["text"]'
    table = f"a 2-D table of shape {tuple(shape)}"
    if not name.endswith("y"):
        return f'{table}; name the column, as in table["text"]'
    if shape[1:] == (1,):
        return f"{table}; name the column, or flatten it as in y.ravel()"
    # The rows of an indicator matrix would read as lists of the labels 0 and 1.
    return f"{table}; name the column, or give the labels of each text as a list"
