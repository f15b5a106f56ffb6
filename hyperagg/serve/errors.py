"""Errors that a client sees, in the two shapes that clients expect.

Routes below `/v1/` answer as OpenAI's API does, all others as Text Embeddings Inference does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["RequestError", "error_body", "error_response"]

# By status: the error type of Text Embeddings Inference and that of OpenAI.
_TYPES = {
    400: ("Validation", "invalid_request_error"),
    401: ("Unauthorized", "authentication_error"),
    403: ("Unauthorized", "permission_error"),
    404: ("NotFound", "invalid_request_error"),
    405: ("Validation", "invalid_request_error"),
    408: ("Validation", "invalid_request_error"),
    413: ("Validation", "invalid_request_error"),
    422: ("Validation", "invalid_request_error"),
    424: ("Backend", "server_error"),
    429: ("Overloaded", "rate_limit_error"),
    503: ("Unhealthy", "server_error"),
}


class RequestError(Exception):
    """An error of a request.

    Args:
        status: the HTTP status, such as 422 for an argument that is not valid.
        message: one line that names the argument, its value and what is accepted.
        param: the argument at fault, for the shape of OpenAI.
        code: a word for programs, for the shape of OpenAI.
        error_type: in place of the type that belongs to the status.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        error_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.error_type, self.headers = error_type, headers


def error_body(error: RequestError, path: str) -> dict[str, Any]:
    """Return the JSON value of an error, in the shape of the route that `path` belongs to."""
    own, openai = _TYPES.get(error.status, ("Backend", "server_error"))
    if path.startswith("/v1/"):
        return {
            "error": {
                "message": error.message,
                "type": error.error_type or openai,
                "param": error.param,
                "code": error.code,
            }
        }
    return {"error": error.message, "error_type": error.error_type or own}


def error_response(error: RequestError, path: str) -> Response:
    """Return the answer to a request that failed."""
    return Response(
        orjson.dumps(error_body(error, path)),
        error.status,
        error.headers,
        media_type="application/json",
    )
