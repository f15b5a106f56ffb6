"""Checks the arguments of estimators."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

__all__ = [
    "check_bool",
    "check_choice",
    "check_integer",
    "check_output_folder",
    "check_path",
    "check_real",
    "check_seed",
]


def check_integer(
    name: str, value: Any, minimum: int | None = None, maximum: int | None = None
) -> int:
    """Return an integer of Python or NumPy as an int.

    Raises:
        TypeError: the value is not an integer (True and False are not).
        ValueError: the value is out of range; without a maximum this is 2^63 - 1.
    """
    expected = "an integer"
    if minimum is not None:
        expected += f" >= {minimum}" if maximum is None else f" from {minimum} to {maximum}"
    elif maximum is not None:
        expected += f" <= {maximum}"
    message = f"{name}={shorten(value)}: expected {expected}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(message)
    number = int(value)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise ValueError(message)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{message} and < 2^63" if number > 0 else f"{message} >= -2^63")
    return number


def check_real(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    open_minimum: bool = False,
    open_maximum: bool = False,
) -> float:
    """Return a finite number of Python or NumPy as a float.

    Args:
        minimum, maximum: bounds of the interval; `open_minimum` and `open_maximum` exclude them.

    Raises:
        TypeError: the value is not a real number (True and False are not).
        ValueError: the value is out of range, infinite or NaN.
    """
    bounds = []
    if minimum is not None:
        bounds.append(f"{'>' if open_minimum else '>='} {minimum:g}")
    if maximum is not None:
        bounds.append(f"{'<' if open_maximum else '<='} {maximum:g}")
    expected = f"a finite number {' and '.join(bounds)}".rstrip()
    message = f"{name}={shorten(value)}: expected {expected}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(message) from None
    low = minimum is None or (number > minimum if open_minimum else number >= minimum)
    high = maximum is None or (number < maximum if open_maximum else number <= maximum)
    if not (low and high and abs(number) < float("inf")):
        raise ValueError(message)
    return number


def check_bool(name: str, value: Any) -> bool:
    """Return a truth value of Python or NumPy as a bool.

    Raises:
        TypeError: the value is not True or False.
    """
    if type(value).__name__ not in ("bool", "bool_"):  # NumPy's type, without importing it
        raise TypeError(f"{name}={shorten(value)}: expected True or False")
    return bool(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return a string if it is one of the choices.

    Raises:
        ValueError: it is not.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        quoted = ", ".join(f'"{choice}"' for choice in choices)
        expected = f"one of {quoted}" if len(choices) > 1 else quoted
        raise ValueError(f"{name}={shorten(value)}: expected {expected}")
    return str(value)


def check_path(name: str, value: Any) -> Path:
    """Return the name of a file or a folder as a Path.

    Raises:
        TypeError: it is not a str or a path.
        ValueError: it is an empty str, which a Path would make the current folder.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}={shorten(value)}: expected a str or a path")
    if value == "":
        raise ValueError(f"{name}='': expected a str that is not empty, or a path")
    return Path(value)


def check_output_folder(folder: Any) -> Path:
    """Return the folder that a model is to be saved to; it may not exist yet.

    Raises:
        TypeError: it is not a str or a path.
        ValueError: it is empty, a file, or a folder in the cache of the Hugging Face Hub, whose
            files are links to content that other revisions share.
    """
    path = check_path("folder", folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: is a file; expected the name of a folder")
    snapshots = path.resolve().parent
    if snapshots.name == "snapshots" and (snapshots.parent / "blobs").is_dir():
        raise ValueError(
            f"{path}: is a snapshot in the cache of the Hugging Face Hub; save to another folder"
        )
    return path


def check_seed(seed: Any) -> int:
    """Return a seed as an int; it is from 0 to 2^63 - 1."""
    integer = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not (integer and 0 <= int(seed) < 2**63):
        raise ValueError(f"seed={shorten(seed)}: expected an integer from 0 to 2^63 - 1")
    return int(seed)
