"""The routes of classifiers: `/predict`, `POST /` and `/explain`."""

from __future__ import annotations

import orjson
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response

from hyperagg._numba.cpus import default_threads
from hyperagg.serve.errors import RequestError
from hyperagg.serve.requests import (
    ExplainRequest,
    InferenceRequest,
    PredictRequest,
    body_schema,
    parse,
)
from hyperagg.serve.selection import select_model
from hyperagg.text.tokenizer_errors import TokenizerError

__all__ = ["add_prediction_routes"]


def add_prediction_routes(app: FastAPI) -> None:
    """Add the routes to an application whose state has the models and the settings."""
    # Large requests take the threads of the machine; more of them at a time would only need more
    # memory.
    limiter = CapacityLimiter(default_threads())

    async def answer(request: Request, schema: type[BaseModel], method: str) -> Response:
        model = select_model(request)
        call = getattr(model, method, None)
        if call is None:
            raise RequestError(
                404,
                f"{request.url.path}: model {model.name!r} is a {model.kind} model",
                param="model",
            )
        content = await request.body()

        def compute() -> bytes:
            body = parse(schema, content)
            try:
                return orjson.dumps(call(body, app.state.settings))
            except TokenizerError as error:
                raise RequestError(422, f"inputs: {error}", param="inputs") from error

        # An explanation takes microseconds per character.
        if method != "explain" and model.is_quick(content):
            value = compute()
        else:
            value = await to_thread.run_sync(compute, limiter=limiter)
        return Response(value, media_type="application/json")

    async def predict(request: Request) -> Response:
        """Return the labels of a text, a pair or a batch with their scores, sorted by score."""
        return await answer(request, PredictRequest, "predict")

    async def infer(request: Request) -> Response:
        """Return what huggingface_hub's InferenceClient expects: a list of labels per text."""
        return await answer(request, InferenceRequest, "infer")

    async def explain(request: Request) -> Response:
        """Return what each token contributes to the logit of each label.

        `start` and `end` count characters (Unicode code points) of the text. The bias and the
        contributions of a label add up to its logit.
        """
        return await answer(request, ExplainRequest, "explain")

    for prefix in ("/models/{model}", ""):
        for path, handler, schema in (
            ("/" if not prefix else "", infer, InferenceRequest),
            ("/explain", explain, ExplainRequest),
            ("/predict", predict, PredictRequest),
        ):
            app.add_api_route(
                prefix + path, handler, methods=["POST"], openapi_extra=body_schema(schema)
            )
