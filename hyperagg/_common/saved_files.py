"""Reads the files of saved models, of which none is trusted.

A file is regular and not larger than its kind can be; JSON has finite numbers and values of the
types and ranges of a schema; the header of a file of tensors has the shapes that the configuration
requires, before anything is allocated for them; an error names the file, what is wrong and the
remedy.

A schema is a mapping from keys to the checks of `hyperagg._common.validation`, which check the
arguments of the estimators too: one definition of what is valid, and one wording of the errors,
without a further package in the base installation.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np

from hyperagg._common.regular_file import open_regular
from hyperagg._common.tensors import TensorInfo
from hyperagg._common.validation import check_choice, check_integer, check_real

__all__ = [
    "MAX_CONFIG_BYTES",
    "MAX_TEXT_BYTES",
    "Check",
    "Schema",
    "UnsupportedError",
    "anything",
    "check_dimensions",
    "check_fields",
    "check_file",
    "check_finite",
    "check_num_layers",
    "check_range",
    "check_tensors",
    "choice",
    "format_config",
    "integer",
    "list_of",
    "object_of",
    "optional",
    "parse_json",
    "raise_as_corrupt",
    "read_config_if_any",
    "read_json",
    "read_text",
    "real",
    "text",
]

# Larger than the tokenizer of 10^7 words that a model of the size of the memory has.
MAX_TEXT_BYTES = 2**28
# Of JSON that is not a vocabulary. Python's objects take up to 25 times the space of their text.
MAX_CONFIG_BYTES = 2**25
# Of a config.json that is read only to tell which product it belongs to.
_MAX_GLANCE_BYTES = 2**20
_FORMAT_COMES_FIRST = re.compile(r'\s*\{\s*"format"\s*:\s*"([\w.]{1,100})"\s*,')
# The product of three parameters, summed over all dimensions, stays finite in float32. Training
# does not lead near it.
_MAX_WEIGHT = 1e10

_DTYPES = {
    "floats": {"F16", "BF16", "F32", "F64"},
    "integers": {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"},
    "float32": {"F32"},
    "int8": {"I8"},
}

Check = Callable[[str, Any], Any]
Schema = Mapping[str, Check]


class UnsupportedError(ValueError):
    """A file is valid, but what it asks for is not accepted; to save it again would not help."""


@contextmanager
def raise_as_corrupt(folder: Path, name: str) -> Iterator[None]:
    """Turn any error into a ValueError that names the file `name` of the model folder `folder`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: {name} is missing; save the model again") from error
    except ImportError:
        raise  # a missing extra is not a damaged file
    except UnsupportedError as error:
        raise ValueError(f"{folder / name}: not supported ({error})") from error
    except Exception as error:  # the tokenizers library raises this very class
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].removeprefix(f"{folder / name}: ").removeprefix(f"{name}: ")
        raise ValueError(
            f"{folder / name}: damaged ({reason[:200]}); save the model again"
        ) from error


def check_file(path: Path, max_bytes: int | None = None) -> None:
    """Raise an error unless a path is a regular file, or a link to one, of at most that size.

    Raises:
        OSError: it does not exist, or is a folder.
        ValueError: it is a pipe or a device, or larger.
    """
    open_regular(path, max_bytes).close()


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the content of a regular file in UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, larger than `max_bytes`, or not UTF-8.
    """
    with open_regular(path, max_bytes) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:  # it has grown
        raise ValueError(f"{path}: expected at most {max_bytes:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 (at byte {error.start:,})") from error


def read_json(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Return the JSON object that a file holds; its numbers are finite.

    Raises:
        OSError: it cannot be read.
        ValueError: as for `read_text` and `parse_json`; the message begins with the path.
    """
    text = read_text(path, max_bytes)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_json(text: str) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        ValueError: the text is not JSON or nested too deeply, a number is not finite, or the value
            is not an object.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("not valid JSON (it is nested too deeply)") from error
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object")
    return content


def read_config_if_any(folder: str | Path) -> dict[str, Any]:
    """Return what config.json of a folder holds; {} if there is none that can be read.

    It tells which product a model belongs to; the reader of that product reports what is wrong.
    Of a file that begins with its "format", as those of our own formats do, only that is returned;
    a long one that does not is none of ours.
    """
    path = Path(folder) / "config.json"
    try:
        with open_regular(path, MAX_CONFIG_BYTES) as file:
            begin = file.read(1000).decode("utf-8", "replace")
        if found := _FORMAT_COMES_FIRST.match(begin):
            return {"format": found[1]}
        return read_json(path, _MAX_GLANCE_BYTES)
    except (OSError, ValueError):
        return {}


def format_config(content: Mapping[str, Any]) -> str:
    """Return the text of a config.json, which begins with its "format".

    Raises:
        ValueError: it would be too large to be read again.
    """
    config = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if (size := len(config.encode("utf-8", "replace"))) > MAX_CONFIG_BYTES:
        raise ValueError(
            f"config.json would have {size:,} bytes; expected at most {MAX_CONFIG_BYTES:,}, so the "
            "model needs fewer classes or shorter labels"
        )
    return config


def check_fields(content: Any, schema: Schema, prefix: str = "") -> None:
    """Check the values of an object whose keys a schema names; other keys are left alone.

    Args:
        content: what was read.
        schema: the check of each value that may be there.
        prefix: where the object lies, such as "history.", which errors name.

    Raises:
        TypeError, ValueError: it is not an object, or a value is of the wrong type or out of range.
    """
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{prefix.rstrip('.') or 'content'}={shorten(content)}: expected an object"
        )
    for key, check in schema.items():
        if key in content:
            check(prefix + key, content[key])


def integer(minimum: int, maximum: int) -> Check:
    """Return the check of an integer in a range."""
    return lambda name, value: check_integer(name, value, minimum, maximum)


def real(minimum: float | None = None, maximum: float | None = None) -> Check:
    """Return the check of a finite number in a range."""
    return lambda name, value: check_real(name, value, minimum, maximum)


def text(name: str, value: Any) -> None:
    """Check a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={shorten(value)}: expected a string")


def choice(*values: str) -> Check:
    """Return the check of one of some strings."""
    return lambda name, value: check_choice(name, value, values)


def optional(check: Check) -> Check:
    """Return the check of a value that may be null."""
    return lambda name, value: None if value is None else check(name, value)


def list_of(check: Check) -> Check:
    """Return the check of a list."""

    def check_list(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise TypeError(f"{name}={shorten(value)}: expected a list")
        for i, each in enumerate(value):
            check(f"{name}[{i}]", each)

    return check_list


def object_of(check: Check) -> Check:
    """Return the check of an object whose values are all of one kind."""

    def check_object(name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise TypeError(f"{name}={shorten(value)}: expected an object")
        for key, each in value.items():
            check(f"{name}[{key!r:.40}]", each)

    return check_object


def anything(name: str, value: Any) -> None:
    """Accept any value."""


def check_tensors(
    found: Mapping[str, TensorInfo], expected: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    """Check what a file says of its tensors: these names, and the shape and the type of each.

    Args:
        found: from the header of the file.
        expected: the shape and the type, one of "floats", "integers", "float32" and "int8".

    Raises:
        ValueError: a tensor is missing, unexpected, or of another shape or type.
    """
    for name in found:
        if name not in expected:
            raise ValueError(f"tensor {shorten(name)} does not belong to this model")
    for name, (shape, kind) in expected.items():
        if name not in found:
            raise ValueError(f"tensor {name} is missing")
        if found[name].shape != shape or found[name].dtype not in _DTYPES[kind]:
            raise ValueError(
                f"tensor {name} is {list(found[name].shape)} of {found[name].dtype}; the "
                f"configuration requires {list(shape)} of {kind}"
            )


def check_dimensions(found: Mapping[str, TensorInfo], sizes: Mapping[str, int]) -> None:
    """Check sizes of a configuration before a network of these sizes is made in vain.

    Args:
        found: what the header of the weights says.
        sizes: by name, the number of rows or columns of some weight.

    Raises:
        ValueError: a size is larger than the largest dimension of all tensors.
    """
    largest = max((max(info.shape, default=0) for info in found.values()), default=0)
    for name, size in sizes.items():
        if size > largest:
            raise ValueError(f"{name}={size}: no weight has so large a dimension")


def check_num_layers(
    found: Mapping[str, TensorInfo], pattern: str, name: str, num_layers: int
) -> None:
    """Check the number of layers before a network of so many is made.

    Args:
        found: what the header of the weights says.
        pattern: a regular expression whose group is the number of the layer in the name of a
            tensor.
        name: what the configuration calls the number of layers.
        num_layers: its value.

    Raises:
        ValueError: the tensors are those of another number of layers.
    """
    layers = {match[1] for tensor in found if (match := re.search(pattern, tensor))}
    if len(layers) != num_layers:
        raise ValueError(f"{name}={num_layers}: the weights have {len(layers)}")


def check_finite(name: str, array: np.ndarray, block: int = 1 << 16) -> None:
    """Raise ValueError unless all values of a tensor are finite, and small enough to compute with.

    Cost: every block of values is read from memory once.
    """
    values = array.reshape(-1)
    for begin in range(0, len(values), block):
        part = values[begin : begin + block]
        # Without a temporary array; the minimum and the maximum of NaN are NaN.
        check_range(name, float(part.min()), float(part.max()))


def check_range(name: str, minimum: float, maximum: float) -> None:
    """Raise ValueError unless the extreme values of a tensor are such as `check_finite` accepts."""
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        raise ValueError(f"tensor {name} holds values that are not finite")
    if max(-minimum, maximum) > _MAX_WEIGHT:
        raise ValueError(
            f"tensor {name} holds the value {maximum if maximum > -minimum else minimum:g}; "
            f"expected at most {_MAX_WEIGHT:g}"
        )


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text}: expected a finite number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shorten(text)}: expected a finite number")
    return value
