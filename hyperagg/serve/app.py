"""The application: routes over models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route, request_response

import hyperagg
from hyperagg.serve.errors import RequestError, error_response
from hyperagg.serve.feedback import add_feedback_routes
from hyperagg.serve.guard import Endpoint, Guard
from hyperagg.serve.metrics import metrics_text
from hyperagg.serve.models import ServedModel
from hyperagg.serve.page.routes import add_page_route
from hyperagg.serve.prediction_routes import add_prediction_routes
from hyperagg.serve.responses import json_response
from hyperagg.serve.selection import select_model
from hyperagg.serve.settings import Settings
from hyperagg.serve.stream import add_stream_routes

__all__ = ["PlainRoute", "create_app"]


class PlainRoute(APIRoute):
    """A route whose function takes the request and returns the response.

    The OpenAPI page knows it as any other route. FastAPI's injection of dependencies, which takes
    longer than the prediction for a text, is left out.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app = request_response(self.endpoint)

    matches = Route.matches
    handle = Route.handle


def create_app(models: Sequence[ServedModel], settings: Settings | None = None) -> FastAPI:
    """Return an ASGI application that serves models.

    The routes of the first model are at the root, and those of every model below `/models/NAME`. A
    browser finds a page at `/`.

    Args:
        models: what `load_models` returned.
        settings: the limits (default: those of `Settings()`).

    Raises:
        ValueError: there is a feedback token, and a classifier cannot continue training.

    Example:
        >>> from hyperagg import TextClassifier
        >>> from hyperagg.serve import load_models
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> clf.save_pretrained("model")
        >>> app = create_app(load_models(["model"]))  # for uvicorn, as module:app
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A server accepts connections only afterwards, so one that answers is ready.
        for model in models:
            await anyio.to_thread.run_sync(model.warm_up)
        yield

    app = FastAPI(
        title="hyperagg",
        version=hyperagg.__version__,
        lifespan=lifespan,
        redoc_url=None,
        # Its logs would have the messages of exceptions, which may quote texts.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.router.route_class = PlainRoute
    app.state.models = {model.name: model for model in models}
    app.state.first = models[0]
    app.state.settings = settings
    _add_error_handlers(app)
    add_prediction_routes(app)
    _add_common_routes(app)
    add_page_route(app)
    if any(model.kind == "classifier" for model in models):
        add_stream_routes(app)
    if settings.feedback_token is not None:
        add_feedback_routes(app)
    app.add_middleware(Guard, settings=settings, endpoints=_endpoints(app))
    language_models: list[Any] = [model for model in models if model.kind == "language"]
    if language_models:
        from hyperagg.serve.language.routes import make_language_router

        app.include_router(make_language_router(language_models, settings.language))
    app.router.route_class = APIRoute  # for the routes that users add
    return app


def _endpoints(app: FastAPI) -> dict[tuple[str, str], Endpoint]:
    """The functions of plain routes whose paths have no parameters, by method and path."""
    return {
        (method, route.path): route.endpoint
        for route in app.routes
        if isinstance(route, PlainRoute) and not route.param_convertors
        for method in route.methods or ()
    }


def _add_error_handlers(app: FastAPI) -> None:
    async def on_http_error(request: Request, error: Any) -> Response:
        own = RequestError(error.status_code, str(error.detail), headers=error.headers)
        return error_response(own, request.url.path)

    async def on_invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or "body"
        status = 400 if request.url.path.startswith("/v1/") else 422
        return error_response(
            RequestError(status, f"{where}: {first['msg']}", param=where), request.url.path
        )

    async def on_bug(request: Request, error: Any) -> Response:
        return error_response(RequestError(500, "internal error"), request.url.path)

    app.add_exception_handler(Exception, on_bug)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)


def _add_common_routes(app: FastAPI) -> None:
    async def health(request: Request) -> Response:
        """Say that the server is ready."""
        return Response(b"")

    async def info(request: Request) -> Response:
        """Describe the first model, or the named one, and the limits of the server."""
        model, settings = select_model(request), app.state.settings
        return json_response(
            {
                **model.info(),
                "name": model.name,
                "max_concurrent_requests": settings.max_concurrent_requests,
                "max_client_batch_size": settings.max_texts,
                "max_characters": settings.max_characters,
                "max_body_bytes": settings.max_body_bytes,
                "feedback": settings.feedback_token is not None,
                "version": hyperagg.__version__,
            }
        )

    async def metrics(request: Request) -> Response:
        """Return the counts and durations of requests in the format of Prometheus."""
        return Response(metrics_text(), media_type=CONTENT_TYPE_LATEST)

    async def list_models(request: Request) -> Response:
        """List the models."""
        return json_response(
            {"models": [{"name": m.name, "kind": m.kind} for m in app.state.models.values()]}
        )

    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/info", info, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    app.add_api_route("/models", list_models, methods=["GET"])
    app.add_api_route("/models/{model}/info", info, methods=["GET"])
