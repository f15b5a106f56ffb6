"""Which model a request is about."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

from hyperagg.serve.errors import RequestError

__all__ = ["select_model"]


def select_model(connection: HTTPConnection) -> Any:
    """Return the model that the path of a request or a stream names, or the first one.

    Raises:
        RequestError: the server has no model with this name.
    """
    name = connection.path_params.get("model")
    state = connection.app.state
    if name is None:
        return state.first
    if name not in state.models:
        raise RequestError(
            404,
            f"model {name!r}: expected one of {', '.join(map(repr, state.models))}",
            param="model",
        )
    return state.models[name]
