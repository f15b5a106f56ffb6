"""What `hyperagg serve` is compared with: applications that uvicorn starts by their name."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["empty_fastapi", "empty_starlette", "fasttext_route"]


class _Body(BaseModel):
    inputs: str


def empty_fastapi() -> FastAPI:
    """A route of FastAPI that reads nothing and returns an empty list."""
    app = FastAPI()

    @app.post("/predict")
    async def predict() -> list[Any]:
        return []

    return app


def empty_starlette() -> Starlette:
    """A route of Starlette, on which FastAPI stands, that reads nothing."""

    async def predict(request: Request) -> Response:
        return Response(b"[]", media_type="application/json")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


def fasttext_route() -> FastAPI:
    """A route of FastAPI as one writes it, which calls the fastText model FASTTEXT_MODEL."""
    import fasttext

    # Its C++ function: the Python method raises an error with NumPy 2.
    model = fasttext.load_model(os.environ["FASTTEXT_MODEL"]).f
    app = FastAPI()

    @app.post("/predict")
    async def predict(body: _Body) -> list[dict[str, Any]]:
        found = model.predict(body.inputs.replace("\n", " ") + "\n", -1, 0.0, "strict")
        return [{"label": label, "score": score} for score, label in found]

    return app
