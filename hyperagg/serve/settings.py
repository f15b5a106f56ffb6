"""What the server accepts: limits, time-outs and keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from hyperagg._common.validation import check_bool, check_integer, check_real
from hyperagg.serve.language.settings import LanguageSettings

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The limits of a server.

    Args:
        api_key: what a request must send as ``Authorization: Bearer KEY`` (default: nothing).
        feedback_token: what `/feedback` requires in place of the API key (default: the route does
            not exist).
        max_body_bytes: the size of the body of a request.
        max_texts: the number of texts, or rows of a table, of a request.
        max_characters: the length of a text.
        max_concurrent_requests: the number of requests that a worker handles at a time; further
            ones are answered with status 429.
        max_streams: the number of open streams per worker.
        request_timeout: the seconds in which the headers of a request, and then its body, must
            arrive.
        stream_timeout: the seconds that a stream may be silent.
        keep_alive: the seconds that an idle connection is kept.
        access_log: whether each request is logged, without its content.
        language: the limits of language models.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> Settings(max_texts=32).max_texts
        32
    """

    api_key: str | None = field(default=None, repr=False)
    feedback_token: str | None = field(default=None, repr=False)
    max_body_bytes: int = 2_000_000
    max_texts: int = 1000
    max_characters: int = 200_000
    max_concurrent_requests: int = 512
    max_streams: int = 100
    request_timeout: float = 10.0
    stream_timeout: float = 300.0
    keep_alive: float = 5.0
    access_log: bool = True
    language: LanguageSettings = field(default_factory=LanguageSettings)

    def __post_init__(self) -> None:
        for name in ("api_key", "feedback_token"):
            _check_secret(name, getattr(self, name))
        for name in (
            "max_body_bytes",
            "max_texts",
            "max_characters",
            "max_concurrent_requests",
            "max_streams",
        ):
            check_integer(name, getattr(self, name), 1)
        for name in ("request_timeout", "stream_timeout", "keep_alive"):
            check_real(name, getattr(self, name), 0, open_minimum=True)
        check_bool("access_log", self.access_log)


def _check_secret(name: str, value: str | None) -> None:
    """Check that a secret can be sent in a header; errors do not show it."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"{name}: expected printable ASCII characters without blanks")
