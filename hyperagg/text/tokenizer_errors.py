"""Errors of the Hugging Face `tokenizers` library, as one error of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TokenizerError", "raise_as_tokenizer_error"]


class TokenizerError(ValueError):
    """The `tokenizers` library cannot encode a text, or read a file."""


@contextmanager
def raise_as_tokenizer_error(
    message: str = "the tokenizer cannot encode the texts",
) -> Iterator[None]:
    """Turn whatever the library raises into a TokenizerError of one line.

    It raises plain Exceptions. Where its Rust code panics, for example because a regular
    expression has exceeded the retry limit of the engine, it raises pyo3_runtime.PanicException,
    which is not an Exception and cannot be imported.

    Args:
        message: what failed; the reason follows in parentheses.

    Raises:
        TokenizerError: the library has raised an error.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TokenizerError(f"{message} ({reason[:200]})") from error
