"""What every request passes before its route: the key, the limits, the time-out and the log."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from datetime import UTC, datetime

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperagg.serve.errors import RequestError, error_response
from hyperagg.serve.log import access_logger
from hyperagg.serve.metrics import count_request
from hyperagg.serve.settings import Settings

__all__ = ["Guard", "has_secret"]

# What may be read without a key: what load balancers and browsers ask for first, which says nothing
# about a model.
_OPEN = frozenset({"/", "/health", "/docs", "/openapi.json"})

# What remains of a body is not read.
_CLOSE = {"Connection": "close"}


class Guard:
    """ASGI middleware that admits requests.

    Args:
        app: the application behind it.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        error = self._refuse(scope)
        self._running += 1
        try:
            if error is not None:
                respond = error_response(error, scope["path"])
                await respond(scope, receive, send_noting_status)
            else:
                await self.app(scope, self._limited(receive), send_noting_status)
        except BaseException:
            status = status or 500
            raise
        finally:
            self._running -= 1
            seconds = time.perf_counter() - begun
            count_request(getattr(scope.get("endpoint"), "__name__", "none"), status, seconds)
            if access_logger.isEnabledFor(logging.INFO):
                access_logger.info(_access_line(scope, status, seconds))

    def _refuse(self, scope: Scope) -> RequestError | None:
        settings, path = self.settings, scope["path"]
        key = settings.api_key
        if not (key is None or _is_open(scope) or has_secret(scope, key)):
            return RequestError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self._running >= settings.max_concurrent_requests and path != "/health":
            return RequestError(
                429,
                f"the server already handles {settings.max_concurrent_requests} requests; try "
                "again later",
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        if _declared_size(scope) > settings.max_body_bytes:
            return _too_large(settings.max_body_bytes)
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Return a `receive` that raises an error if the body is too large or arrives too late."""
        limit, timeout = self.settings.max_body_bytes, self.settings.request_timeout
        complete, size = False, 0
        deadline = asyncio.get_running_loop().time() + timeout

        async def receive_limited() -> Message:
            nonlocal complete, size
            if complete:
                return await receive()  # waits for the end of the connection
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestError(
                    408, f"the body did not arrive within {timeout:g} s", headers=_CLOSE
                ) from None
            size += len(message.get("body", b""))
            if size > limit:
                raise _too_large(limit)
            complete = not message.get("more_body", False)
            return message

        return receive_limited


def _access_line(scope: Scope, status: int, seconds: float) -> str:
    """What is logged of a request: nothing of its body, its query or its headers."""
    client = scope.get("client")
    return orjson.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "milliseconds": round(1000 * seconds, 3),
        }
    ).decode()


def _is_open(scope: Scope) -> bool:
    """Whether a route needs no API key."""
    if scope["path"] in _OPEN:
        return scope["method"] in ("GET", "HEAD")
    # It requires a secret of its own. /models/feedback is the route of a model with this name.
    parts = str(scope["path"]).split("/")[1:]
    return parts == ["feedback"] or (
        len(parts) == 3 and parts[0] == "models" and parts[2] == "feedback"
    )


def _declared_size(scope: Scope) -> int:
    """The Content-Length of a request; 0 for one that is sent in chunks."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(value) if value.isdigit() else 0


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413, f"the body is larger than {limit} bytes", code="too_large", headers=_CLOSE
    )


def has_secret(scope: Scope, secret: str) -> bool:
    """Whether a request has a secret as its bearer token; takes as long for a wrong one."""
    expected = b"Bearer " + secret.encode()
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return secrets.compare_digest(given, expected)
