"""Download files and check their digests."""

from __future__ import annotations

import hashlib
import logging

from hyperagg._common.progress import activity
from hyperagg.data.readers.errors import DataError

_logger = logging.getLogger("hyperagg")


def announce(what: str, size: int | None) -> None:
    """Log what is about to be downloaded, and how many bytes that is if it is known."""
    _logger.info(f"downloading {what}" + ("" if size is None else f" ({size / 1e6:.1f} MB)"))


def check_digest(data: bytes, algorithm: str, digest: str, name: str) -> None:
    """Raise DataError unless `data` has this digest; `name` names the data in the message."""
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != digest:
        raise DataError(
            f"{name}: the {algorithm} digest is {found}, expected {digest}; the data was damaged "
            "or changed at its source and is not used"
        )


def download(url: str, algorithm: str, digest: str | None) -> bytes:
    """Download a file over HTTP, through the proxies that the environment names.

    Args:
        url: the address.
        algorithm: the name of the digest in hashlib, such as "sha256".
        digest: the expected hexadecimal digest; None if the caller checks the content.

    Raises:
        DataError: the address cannot be reached, or the file has another digest.
    """
    import http.client
    import urllib.request

    try:
        with (
            activity(f"downloading {url}"),
            urllib.request.urlopen(url, timeout=30) as reply,
        ):
            announce(url, getattr(reply, "length", None))  # of HTTP
            data: bytes = reply.read()
    except (OSError, http.client.HTTPException) as error:
        # URLError and TimeoutError are OSErrors; a URLError has its cause in `reason`.
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url}: cannot be downloaded ({reason})") from error
    if digest is not None:
        check_digest(data, algorithm, digest, url)
    return data
