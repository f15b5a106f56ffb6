"""The route `/stream`: a text arrives in pieces over a WebSocket, with an answer after each."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any
from urllib.parse import urlsplit

import orjson
from anyio import to_thread
from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from hyperagg.classifier import StreamingDocument
from hyperagg.serve.answers import rank
from hyperagg.serve.errors import RequestError, error_body, error_response
from hyperagg.serve.guard import has_secret
from hyperagg.serve.requests import StreamMessage, parse
from hyperagg.serve.selection import select_model
from hyperagg.serve.settings import Settings

__all__ = ["add_stream_routes"]

# Close codes of RFC 6455 and of its registry.
_VIOLATES_POLICY = 1008
_IDLE = 1001


def add_stream_routes(app: FastAPI) -> None:
    """Add the route to an application whose state has the models and the settings.

    A client sends ``{"append": "text"}``; with ``"reset": true`` the text begins anew. Each message
    is answered with ``{"labels": [{"label", "score"}, ...], "num_words"}``, or with an error, which
    leaves the text as it was. Where an API key is required and the client cannot send it as a
    header, as in a browser, the first message has it as ``"api_key"``.
    """
    settings: Settings = app.state.settings
    open_streams = 0

    async def stream(websocket: WebSocket) -> None:
        nonlocal open_streams
        try:
            model = _admit(websocket, open_streams, settings)
        except RequestError as error:
            await websocket.send_denial_response(error_response(error, "/stream"))
            return
        open_streams += 1
        try:
            await websocket.accept()
            await _converse(websocket, model, settings)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client has gone, perhaps while an answer was being sent
        finally:
            open_streams -= 1

    app.add_api_websocket_route("/stream", stream)
    app.add_api_websocket_route("/models/{model}/stream", stream)


def _admit(websocket: WebSocket, open_streams: int, settings: Settings) -> Any:
    """The model of a stream; a RequestError if it is not to be opened."""
    origin = websocket.headers.get("origin")
    # Browsers let any page open a WebSocket to any server, so pages of other servers are refused
    # here.
    if origin is not None and urlsplit(origin).netloc != websocket.headers.get("host"):
        raise RequestError(403, "streams are not open to pages of other servers")
    model = select_model(websocket)
    if not getattr(model, "can_stream", False):
        raise RequestError(404, f"model {model.name!r} cannot read a text in pieces")
    if open_streams >= settings.max_streams:
        raise RequestError(
            429,
            f"{settings.max_streams} streams are open already; try again later",
            headers={"Retry-After": "10"},
        )
    return model


async def _converse(websocket: WebSocket, model: Any, settings: Settings) -> None:
    # The model of a stream stays the same, whatever replaces it.
    predictor = model.predictor
    document: StreamingDocument = predictor.stream()
    key = settings.api_key
    admitted = key is None or has_secret(websocket.scope, key)
    while True:
        timeout = settings.stream_timeout if admitted else settings.request_timeout
        try:
            event = await asyncio.wait_for(websocket.receive(), timeout)
        except TimeoutError:
            await websocket.close(_IDLE, f"no message for {timeout:g} s")
            return
        if event["type"] == "websocket.disconnect":
            return
        content = event.get("text") or event.get("bytes") or ""
        try:
            message = parse(StreamMessage, content)
            if not admitted:
                assert key is not None
                if not secrets.compare_digest((message.api_key or "").encode(), key.encode()):
                    raise RequestError(401, "the API key is missing or wrong")
                admitted = True
            unfinished = 0 if message.reset else document.num_unfinished
            if unfinished + len(message.append) > settings.max_characters:
                before = f", with {unfinished} of an unfinished word before" if unfinished else ""
                raise RequestError(
                    413,
                    f"append: a text of {len(message.append)} characters{before}: expected at most "
                    f"{settings.max_characters}",
                )
        except RequestError as error:
            await websocket.send_text(orjson.dumps(error_body(error, "/stream")).decode())
            if not admitted:
                await websocket.close(_VIOLATES_POLICY)
                return
            continue
        if message.reset:
            document = predictor.stream()

        def answer(document: StreamingDocument = document, message: StreamMessage = message) -> str:
            logits = document.append(message.append).logits()
            labels = rank(predictor.decoder, logits[None], message.top_k)[0]
            return orjson.dumps({"labels": labels, "num_words": len(document)}).decode()

        if unfinished + len(content) <= model.inline_bytes:
            text = answer()
        else:
            text = await to_thread.run_sync(answer)
        await websocket.send_text(text)
