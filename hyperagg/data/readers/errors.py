"""The one error of the data room."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be read or fetched; the message is always one line.

    File names, column names and the words of other libraries go into these messages. They may
    hold line breaks, characters that move the cursor or half surrogates that no terminal takes, so
    all of that is dealt with here, where no caller can forget it.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__("".join(c if c.isprintable() else escape(c) for c in line))


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def quote(value: object, limit: int = 60) -> str:
    """`value` in quotes, control characters escaped, cut to about `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
