"""Getting bytes from elsewhere, checked against a known digest."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hyperagg.data.readers.errors import DataError

SLOW_SECONDS = 2.0


@contextmanager
def spinner_when_slow(what: str) -> Iterator[None]:
    """Shows `what` beside a spinner on standard error once the block has taken two seconds.

    Nothing is shown when standard error is not a terminal.
    """
    from rich.console import Console

    status = Console(stderr=True).status(what)
    timer = threading.Timer(SLOW_SECONDS, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def check_digest(data: bytes, algorithm: str, digest: str, what: str) -> None:
    """Raises DataError unless `data` hashes to `digest`."""
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != digest:
        raise DataError(
            f"{what} has {algorithm} {found}, not {digest}: it was damaged or changed at its "
            "source; nothing of it is used"
        )


def download(url: str, algorithm: str, digest: str | None) -> bytes:
    """The bytes at `url`.

    Args:
        url: what to get over HTTP; the proxies of the environment are honoured.
        algorithm: a name in hashlib, "sha256" or whatever the publisher of the file gives.
        digest: the hexadecimal digest that the bytes must have; None where the caller checks
            what is in them.

    Raises:
        DataError: the address cannot be reached or what came does not match the digest.
    """
    import http.client
    import urllib.request

    try:
        with spinner_when_slow(f"fetching {url}"), urllib.request.urlopen(url, timeout=30) as reply:
            data: bytes = reply.read()
    except (OSError, http.client.HTTPException) as error:
        # URLError and TimeoutError are both OSErrors; a URLError wraps its cause in `reason`.
        reason = getattr(error, "reason", None) or error
        raise DataError(f"could not fetch {url} ({reason})") from error
    if digest is not None:
        check_digest(data, algorithm, digest, url)
    return data
