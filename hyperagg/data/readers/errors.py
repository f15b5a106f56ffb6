"""The error of `hyperagg.data`, and how values are quoted in its messages."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be read or downloaded; the message is always one line.

    File names, column names and messages of other libraries become part of these messages. They can
    contain line breaks, characters that move the cursor, or surrogates that a terminal cannot
    print, so the constructor escapes them.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__("".join(c if c.isprintable() else escape(c) for c in line))


def escape(character: str) -> str:
    """Return the backslash escape of a character."""
    return character.encode("unicode_escape").decode("ascii")


def quote(value: object, limit: int = 60) -> str:
    """Return `value` in quotes with control characters escaped, cut to about `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
