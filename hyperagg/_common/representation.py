"""The `__repr__` of estimators."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from reprlib import repr as shorten
from typing import Any

__all__ = ["represent"]

_MAX_LENGTH = 200


def represent(estimator: object, arguments: Mapping[str, Any]) -> str:
    """Return the class with the arguments that differ from its defaults, as scikit-learn does.

    Args:
        estimator: an instance of a class with keyword arguments.
        arguments: the value of each argument of its constructor; those that it lacks are left out.
    """
    shown = []
    for name, parameter in inspect.signature(type(estimator)).parameters.items():
        value = arguments.get(name, parameter.default)
        if value is not parameter.default and value != parameter.default:
            text = repr(value)
            shown.append(f"{name}={text if len(text) <= _MAX_LENGTH else shorten(value)}")
    return f"{type(estimator).__name__}({', '.join(shown)})"
