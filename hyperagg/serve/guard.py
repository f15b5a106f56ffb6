"""What every request passes before its route: the key, the limits, the time-out and the log.

Routes whose paths have no parameters are called from here. The layers of middleware and the router
that FastAPI has behind this one take longer than the prediction for a text.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperagg.serve.errors import RequestError, error_response
from hyperagg.serve.log import access_logger
from hyperagg.serve.metrics import count_request
from hyperagg.serve.scope import BODY_ARRIVED
from hyperagg.serve.settings import Settings

__all__ = ["Endpoint", "Guard", "has_secret"]

Endpoint = Callable[[Request], Awaitable[Response]]

# What may be read without a key: what load balancers and browsers ask for first, which says nothing
# about a model.
_OPEN = frozenset({"/", "/health", "/docs", "/openapi.json"})

_MAX_DIGITS = 19  # of a Content-Length: more bytes than there can be

# What remains of a body is not read.
_CLOSE = {"Connection": "close"}


class Guard:
    """ASGI middleware that admits requests and answers the errors of their routes.

    Args:
        app: the application behind it.
        settings: the limits.
        endpoints: the functions of routes that are called from here, by method and path.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, endpoints: Mapping[tuple[str, str], Endpoint]
    ) -> None:
        self.app, self.settings, self._endpoints = app, settings, endpoints
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

        self._running += 1
        try:
            try:
                self._check(scope)
                await self._call(scope, self._limited(receive, scope), send_noting_status)
            except RequestError as error:
                if status:  # the answer has begun
                    raise
                await error_response(error, scope["path"])(scope, receive, send_noting_status)
        except ClientDisconnect:
            pass  # nobody reads an answer
        except BaseException:
            status = status or 500
            raise
        finally:
            self._running -= 1
            seconds = time.perf_counter() - begun
            count_request(getattr(scope.get("endpoint"), "__name__", "none"), status, seconds)
            if access_logger.isEnabledFor(logging.INFO):
                access_logger.info(_access_line(scope, status, seconds))

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        scope["endpoint"] = endpoint
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise a RequestError if a request is refused before its body is read."""
        settings, path = self.settings, scope["path"]
        key = settings.api_key
        if not (key is None or _is_open(scope) or has_secret(scope, key)):
            raise RequestError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self._running > settings.max_concurrent_requests and path != "/health":
            raise RequestError(
                429,
                f"the server already handles {settings.max_concurrent_requests} requests; try "
                "again later",
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        if _declared_size(scope) > settings.max_body_bytes:
            raise _too_large(settings.max_body_bytes)

    def _limited(self, receive: Receive, scope: Scope) -> Receive:
        """Return a `receive` that raises an error if the body is too large or arrives too late."""
        limit, timeout = self.settings.max_body_bytes, self.settings.request_timeout
        complete, size = False, 0
        arrived = scope.get(BODY_ARRIVED, False)
        # None starts no timer.
        deadline = None if arrived else asyncio.get_running_loop().time() + timeout

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
    digits = value.lstrip(b"0")
    if not value.isdigit() or not digits:
        return 0
    # Python does not convert thousands of digits.
    return int(digits) if len(digits) < _MAX_DIGITS else sys.maxsize


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413, f"the body is larger than {limit} bytes", code="too_large", headers=_CLOSE
    )


def has_secret(scope: Scope, secret: str) -> bool:
    """Whether a request has a secret as its bearer token; takes as long for a wrong one."""
    expected = b"Bearer " + secret.encode()
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return secrets.compare_digest(given, expected)
