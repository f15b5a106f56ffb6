"""Responses of JSON."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["json_response"]


def json_response(value: Any) -> Response:
    """Return an answer of JSON values."""
    return Response(orjson.dumps(value), media_type="application/json")
