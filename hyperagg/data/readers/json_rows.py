"""Parses JSON lines and JSON arrays of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hyperagg.data.readers.columns import ColumnSpec, find_column, find_columns, json_type
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.parsed_rows import BLANK_LINE, INVALID, ParsedRows
from hyperagg.data.readers.text_lines import MAX_ROW_CHARS, TextBlocks, has_bad_bytes

__all__ = ["Unparsed", "array_values", "json_array_rows", "json_rows"]

NOT_JSON = "not JSON"
MALFORMED_ARRAY = "malformed JSON array"
_MAX_BLOCKS_HELD = 16  # of a megabyte


def json_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse one JSON object per line; a blank line is a row with an empty text.

    A field inside an object is named with dots, as in "meta.text". A text of null is empty. A row
    has a problem if it is not an object, does not have the text field, or has another value in it
    than a string.

    Raises:
        DataError: no object in the first 16 MB has one of the fields.
    """
    for (values, numbers, lines), fields in _with_fields(_parse_lines(blocks), spec):
        rows = _json_values(values, numbers, fields, spec)
        for index, line in enumerate(lines):
            if index not in rows.problems and not line.isascii() and has_bad_bytes(line):
                rows.problems[index] = INVALID
        yield rows


# Values, the numbers of their lines, and the lines themselves (none for an array).
_Values = tuple[Sequence[Any], Sequence[int], Sequence[str]]


def _parse_lines(blocks: TextBlocks) -> Iterator[_Values]:
    number = 0
    for lines in blocks.lines():
        values = []
        for line in lines:
            try:
                values.append(json.loads(line) if line and not line.isspace() else Unparsed(""))
            # An integer of more than 4,300 digits raises ValueError, deep nesting RecursionError.
            except (ValueError, RecursionError):
                values.append(Unparsed(NOT_JSON))
        yield values, range(number + 1, number + 1 + len(lines)), lines
        number += len(lines)


def _with_fields(
    parsed: Iterator[_Values], spec: ColumnSpec
) -> Iterator[tuple[_Values, _JsonFields | None]]:
    """Yield values with the paths of their fields.

    An optional field may be absent from many rows, so up to `_MAX_BLOCKS_HELD` blocks are read
    before a field is said to be missing.

    Raises:
        DataError: no object in them has one of the fields.
    """
    held: list[_Values] = []
    fields: _JsonFields | None = None
    missing: DataError | None = None
    for one in parsed:
        held.append(one)
        if fields is None:
            try:
                fields = _JsonFields.find([value for values, *_ in held for value in values], spec)
            except DataError as error:
                if len(held) == _MAX_BLOCKS_HELD:
                    raise
                missing = error
                continue
        yield from ((earlier, fields) for earlier in held)
        held.clear()
    if held and missing is not None:
        raise missing


@dataclass(frozen=True)
class Unparsed:
    """What stands for a line without JSON, and for the rest of an array that is malformed."""

    problem: str


@dataclass(frozen=True)
class _JsonFields:
    """The paths of the fields that are read."""

    text: tuple[str, ...]
    label: tuple[str, ...] | None
    kept: list[tuple[str, ...]]

    @classmethod
    def find(cls, values: Sequence[Any], spec: ColumnSpec) -> _JsonFields | None:
        """Return the paths; None if there is no object among the values.

        Raises:
            DataError: no object has one of the fields.
        """
        objects = [value for value in values if isinstance(value, dict)]
        if not objects:
            return None
        columns = list(dict.fromkeys(name for one in objects for name in one))

        def path(option: str, requested: str | None) -> tuple[str, ...]:
            if requested is not None and requested not in columns:
                for one in objects:
                    if found := _dotted_path(one, requested):
                        return found
            return (columns[find_column(columns, option, requested, spec)],)

        label = spec.label
        if label is None and "label" not in columns and "labels" in columns:
            label = "labels"
        own = cls(
            path("--text", spec.text),
            path("--label", label) if spec.labeled else None,
            [path("--keep", name) for name in spec.keep],
        )
        if own.text == own.label:
            find_columns(columns, spec, multi_label=True)  # raises the error about it
        return own


def _dotted_path(value: Any, name: str) -> tuple[str, ...] | None:
    """Return the keys that lead to a nested field; None if it does not exist."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return (name,)
    parts = name.split(".")
    for i in range(1, len(parts)):
        head = ".".join(parts[:i])
        if head in value and (rest := _dotted_path(value[head], ".".join(parts[i:]))):
            return (head, *rest)
    return None


_ABSENT = object()


def _follow(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _json_values(
    values: Sequence[Any], numbers: Sequence[int], fields: _JsonFields | None, spec: ColumnSpec
) -> ParsedRows:
    rows = ParsedRows("json", lines=list(numbers), kept=[[] for _ in spec.keep])
    if fields is not None and fields.label is not None:
        rows.label_column = ".".join(fields.label)
    for index, value in enumerate(values):
        problem, text, label = "", "", None
        kept: list[Any] = [None] * len(spec.keep)
        if isinstance(value, Unparsed):
            problem = value.problem or BLANK_LINE
        elif not isinstance(value, dict) or fields is None:
            problem = f"{json_type(value)} instead of a JSON object"
        else:
            found = _follow(value, fields.text)
            if found is _ABSENT:
                problem = f"no field {quote('.'.join(fields.text))}"
            elif isinstance(found, str):
                text = found
            elif found is not None:
                problem = f"{quote('.'.join(fields.text))} is {json_type(found)}, not a string"
            kept = [None if (one := _follow(value, p)) is _ABSENT else one for p in fields.kept]
            if fields.label is not None:
                label = _follow(value, fields.label)
        if problem:
            rows.problems[index] = problem
        rows.texts.append(text)
        rows.labels.append(None if label is _ABSENT else label)
        for own, one in zip(rows.kept, kept):
            own.append(one)
    return rows


def json_array_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse a file that is one JSON array of objects, one row per object.

    Raises:
        DataError: as `json_rows`, or the array is malformed from its beginning.
    """
    parsed = ((values, numbers, ()) for values, numbers in array_values(blocks, spec))
    for (values, numbers, _), fields in _with_fields(parsed, spec):
        yield _json_values(values, numbers, fields, spec)


class _MalformedError(Exception):
    """The reason why an array cannot be read on."""


def array_values(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[tuple[list[Any], list[int]]]:
    """Yield the values of an array that each block completes, and their lines.

    Where the array is malformed its further values cannot be separated: `Unparsed` stands for them.

    Raises:
        DataError: there is no value before that.
    """
    decode = json.JSONDecoder().raw_decode
    source = iter(blocks)
    head = next(source, "")
    buffer = head.lstrip()[1:]
    # Lines are counted from the place where counting stopped.
    line = 1 + head.count("\n", 0, len(head) - len(buffer))
    position = counted = 0
    values: list[Any] = []
    numbers: list[int] = []
    count = 0
    expect_value, at_start, ended = True, True, False

    def skip_space(position: int) -> int:
        while position < len(buffer) and buffer[position] in " \t\r\n":
            position += 1
        return position

    more = True
    try:
        while True:
            position = skip_space(position)
            progress = False
            if position < len(buffer):
                if ended:
                    raise _MalformedError("text after the end of the array")
                if not expect_value or at_start:
                    if buffer[position] == "]":
                        ended = progress = True
                        position += 1
                    elif not at_start:
                        if buffer[position] != ",":
                            raise _MalformedError("expected , or ]")
                        expect_value = progress = True
                        position += 1
                if not progress:
                    try:
                        value, stop = decode(buffer, position)
                        # A number may go on in the next block.
                        progress = stop < len(buffer) or not more or buffer[stop - 1] in '}]"'
                    except RecursionError as error:
                        raise _MalformedError("nested too deeply") from error
                    except ValueError as error:
                        cut = not isinstance(error, json.JSONDecodeError) or (
                            "Unterminated" in error.msg or error.pos >= len(buffer) - 12
                        )
                        if not more or not cut:
                            raise _MalformedError(getattr(error, "msg", str(error))) from error
                    if progress:
                        line += buffer.count("\n", counted, position)
                        counted = position
                        values.append(value)
                        numbers.append(line)
                        count += 1
                        position, expect_value, at_start = stop, False, False
                if progress:
                    continue
            if values:
                yield values, numbers
                values, numbers = [], []
            if not more:
                break
            line += buffer.count("\n", counted, position)
            buffer = buffer[position:]
            position = counted = 0
            if len(buffer) > MAX_ROW_CHARS:
                raise _MalformedError(f"longer than {MAX_ROW_CHARS:,} characters")
            # Twice as much each time, so that a long object is not parsed from its start too often.
            wanted, parts = max(1, len(buffer)), []
            while wanted > 0:
                block = next(source, None)
                if block is None:
                    more = False
                    break
                parts.append(block)
                wanted -= len(block)
            buffer += "".join(parts)
        if not ended:
            raise _MalformedError("the file ends before the array does")
    except _MalformedError as error:
        at = line + buffer.count("\n", counted, position)
        problem = f"{MALFORMED_ARRAY} (object {count + 1}: {error})"
        if not count:
            raise spec.error(f"line {at}: {problem}: write one object per line instead") from error
        yield [*values, Unparsed(problem)], [*numbers, at]
