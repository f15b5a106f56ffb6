"""The routes of OpenAI's API: /v1/completions, /v1/chat/completions and /v1/models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hyperagg.serve.errors import RequestError, error_body
from hyperagg.serve.language.answers import Answer, ChatAnswer, CompletionAnswer, Usage
from hyperagg.serve.language.engine import (
    Engine,
    Event,
    Finished,
    GenerationRequest,
    Job,
    OverloadedError,
    Piece,
    PromptRead,
    Sink,
)
from hyperagg.serve.language.model import ServedLanguageModel
from hyperagg.serve.language.prompts import check_lengths, encode_chat, encode_prompts
from hyperagg.serve.language.schema import ChatRequest, CompletionRequest
from hyperagg.serve.language.settings import LanguageSettings

__all__ = ["make_language_router"]

logger = logging.getLogger(__name__)

_DEFAULT_MAX_TOKENS = 16
_CLIENT_CLOSED_REQUEST = 499
_EXPECTED = {"stop": "expected a string or a list of strings"}


class _Route(APIRoute):
    """A route that reports a body that is not valid in the shape of OpenAI's errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_invalid(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise _invalid_body(error, request) from error

        return handle_invalid


@dataclass(frozen=True)
class _Served:
    model: ServedLanguageModel
    engine: Engine


def make_language_router(
    models: Sequence[ServedLanguageModel], settings: LanguageSettings
) -> APIRouter:
    """Return the routes of language models.

    Args:
        models: the models; a request names one of them.
        settings: the limits.
    """
    served = {
        model.name: _Served(
            model, Engine(model.model, model.tokenizer, settings, threads=model.threads)
        )
        for model in models
    }

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for each in served.values():
            await anyio.to_thread.run_sync(each.engine.close)

    router = APIRouter(
        prefix="/v1", route_class=_Route, lifespan=lifespan, tags=["language models"]
    )

    def select(name: str) -> _Served:
        if name not in served:
            raise RequestError(
                404,
                f"model {name!r}: expected one of {', '.join(map(repr, served))}",
                param="model",
                code="model_not_found",
            )
        return served[name]

    def describe(model: ServedLanguageModel) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": model.created,
            "owned_by": "hyperagg",
        }

    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        """List the language models."""
        return {"object": "list", "data": [describe(each.model) for each in served.values()]}

    @router.get("/models/{name}")
    async def get_model(name: str) -> dict[str, Any]:
        """Describe a language model, its limits and the states that are kept."""
        each = select(name)
        return {
            **describe(each.model),
            "max_prompt_tokens": settings.max_prompt_tokens,
            "max_tokens": settings.max_tokens,
            "running_generations": each.engine.num_jobs,
            "kept_states": len(each.engine.states),
            "kept_state_bytes": each.engine.states.num_bytes,
        }

    @router.post("/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continue texts."""
        each = select(body.model)
        max_tokens = _max_tokens(body.max_tokens, settings, _DEFAULT_MAX_TOKENS)
        if body.best_of not in (None, body.num_choices):
            raise RequestError(
                400,
                f"best_of={body.best_of} is not supported; expected n or nothing",
                param="best_of",
                code="unsupported_parameter",
            )
        if not max_tokens and not body.echo:
            raise RequestError(400, "max_tokens=0: expected >= 1, or echo=true", param="max_tokens")
        prompts = await anyio.to_thread.run_sync(encode_prompts, each.model, body.prompt)
        _check_choices(len(prompts) * body.num_choices, settings)
        for each_prompt in prompts:
            check_lengths(each.model, each_prompt.tokens, max_tokens, settings, "prompt")
        requests = [
            GenerationRequest(
                prompt=each_prompt.tokens,
                max_tokens=max_tokens,
                num_logprobs=body.logprobs,
                prompt_logprobs=bool(body.echo) and body.logprobs is not None,
                first_choice=index * body.num_choices,
                **_sampling(body),
            )
            for index, each_prompt in enumerate(prompts)
        ]
        answer = CompletionAnswer(
            each.model.name,
            each.model.tokenizer,
            has_logprobs=body.logprobs is not None,
            prompts=[
                echoed
                for each_prompt in (prompts if body.echo else [])
                for echoed in [(each_prompt.text(each.model), each_prompt.num_added)]
                * body.num_choices
            ],
        )
        return await _respond(each.engine, requests, answer, body, request)

    @router.post("/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer the last message of a conversation."""
        each = select(body.model)
        given = (
            body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        )
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError(
                400,
                f"top_logprobs={body.top_logprobs}: expected together with logprobs=true",
                param="top_logprobs",
            )
        _check_choices(body.num_choices, settings)
        ids = await anyio.to_thread.run_sync(encode_chat, each.model, body.messages)
        context = each.model.max_context
        default = settings.max_tokens
        if context is not None:
            default = max(1, min(default, context - len(ids)))
        max_tokens = _max_tokens(given, settings, default)
        check_lengths(each.model, ids, max_tokens, settings, "messages")
        generation = GenerationRequest(
            prompt=ids,
            max_tokens=max_tokens,
            num_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            **_sampling(body),
        )
        answer = ChatAnswer(each.model.name, each.model.tokenizer, has_logprobs=bool(body.logprobs))
        return await _respond(each.engine, [generation], answer, body, request)

    return router


def _sampling(body: CompletionRequest | ChatRequest) -> dict[str, Any]:
    """The arguments of a `GenerationRequest` that both routes have in common."""
    stop = body.stop or []
    return dict(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stops=(stop,) if isinstance(stop, str) else tuple(stop),
        num_choices=body.num_choices,
    )


def _max_tokens(given: int | None, settings: LanguageSettings, default: int) -> int:
    value = min(default, settings.max_tokens) if given is None else given
    if value > settings.max_tokens:
        raise RequestError(
            400,
            f"max_tokens={value}: expected at most {settings.max_tokens} (max_tokens of the "
            "server)",
            param="max_tokens",
        )
    return value


def _check_choices(number: int, settings: LanguageSettings) -> None:
    if number > settings.max_choices:
        raise RequestError(
            400,
            f"n: {number} texts; expected at most {settings.max_choices}, over all prompts "
            "(max_choices of the server)",
            param="n",
        )


def _invalid_body(error: RequestValidationError, request: Request) -> RequestError:
    """Return the error of a body that is not valid, which names the argument at fault."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"][1:]]
    if isinstance(first.get("input"), bytes):  # a body of another type is not parsed
        given = request.headers.get("Content-Type", "none")[:80]
        return RequestError(400, f"Content-Type: {given}; expected application/json")
    if first["type"] == "json_invalid" or not path:
        return RequestError(400, f"body: {first['msg']}; expected a JSON object")
    name, message = path[0], first["msg"].removeprefix("Value error, ")
    if name in _EXPECTED and first["type"] != "value_error":
        message = _EXPECTED[name]
    elif first["type"] == "extra_forbidden":
        message = " ".join([*path[1:], "is not supported"])
    elif len(path) > 1:
        message = f"{'.'.join(path[1:])}: {message}"
    return RequestError(400, f"{name}: {message}", param=name)


async def _respond(
    engine: Engine,
    requests: list[GenerationRequest],
    answer: Answer,
    body: CompletionRequest | ChatRequest,
    request: Request,
) -> Response:
    """Start a request, and answer it whole or as a stream."""
    events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def sink(index: int) -> Sink:
        def receive(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, (index, event))

        return receive

    try:
        jobs = engine.submit([(each, sink(index)) for index, each in enumerate(requests)])
    except OverloadedError:
        raise RequestError(
            429,
            f"the server already generates for {engine.num_jobs} prompts, of at most "
            f"{engine.settings.max_generations} (max_generations of the server); try again later",
            code="overloaded",
            headers={"Retry-After": "1"},
        ) from None
    usage = Usage(requests)
    pieces = _receive(events, requests, answer, usage)
    if body.stream:
        return _Stream(_server_sent_events(pieces, answer, usage, body.includes_usage), jobs)
    joined = asyncio.create_task(_join(pieces, sum(each.num_choices for each in requests)))
    disconnected = asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait({joined, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not joined.done():
            return Response(status_code=_CLIENT_CLOSED_REQUEST)  # for the log alone
        texts = joined.result()
    finally:
        joined.cancel()
        disconnected.cancel()
        _cancel(jobs)
    return Response(
        orjson.dumps({**answer.body(texts), "usage": usage.body()}), media_type="application/json"
    )


async def _receive(
    events: asyncio.Queue[tuple[int, Event]],
    requests: Sequence[GenerationRequest],
    answer: Answer,
    usage: Usage,
) -> AsyncIterator[Piece]:
    """Yield the parts of all texts, those that precede them included, until all jobs have ended.

    Raises:
        RequestError: a job failed.
    """
    running = len(requests)
    offsets: dict[int, int] = {}
    while running:
        index, event = await events.get()
        usage.add(event)
        if isinstance(event, Exception):
            logger.error("generation failed: %s", event)
            raise RequestError(500, f"the generation failed ({event})", code="server_error")
        if isinstance(event, Finished):
            running -= 1
        elif isinstance(event, PromptRead):
            first = requests[index].first_choice
            for choice in range(first, first + requests[index].num_choices):
                opening = answer.opening(choice, event.logprobs)
                if opening is not None:
                    offsets[choice] = len(opening.text)
                    is_whole = requests[index].max_tokens == 0
                    yield replace(opening, finish_reason="length" if is_whole else None)
        else:
            offset = offsets.get(event.choice, 0)
            tokens = [replace(each, offset=each.offset + offset) for each in event.tokens]
            yield replace(event, tokens=tokens)


async def _join(pieces: AsyncIterator[Piece], number: int) -> list[Piece]:
    """Return each text as one piece."""
    texts = [Piece(choice, "", [], None) for choice in range(number)]
    parts: list[list[str]] = [[] for _ in texts]
    async for piece in pieces:
        whole = texts[piece.choice]
        parts[piece.choice].append(piece.text)
        whole.tokens.extend(piece.tokens)
        texts[piece.choice] = replace(whole, finish_reason=piece.finish_reason)
    return [replace(whole, text="".join(each)) for whole, each in zip(texts, parts)]


async def _server_sent_events(
    pieces: AsyncIterator[Piece], answer: Answer, usage: Usage, includes_usage: bool
) -> AsyncIterator[bytes]:
    null_usage = {"usage": None} if includes_usage else {}
    try:
        async for piece in pieces:
            yield _server_sent({**answer.chunk([answer.choice_part(piece)]), **null_usage})
    except RequestError as error:
        # The status was sent already.
        yield _server_sent(error_body(error, "/v1/"))
        return
    if includes_usage:
        yield _server_sent({**answer.chunk([]), "usage": usage.body()})
    yield b"data: [DONE]\n\n"


def _server_sent(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


class _Stream(StreamingResponse):
    """A stream of server-sent events that ends its jobs with the connection."""

    def __init__(self, content: AsyncIterator[bytes], jobs: Sequence[Job]) -> None:
        super().__init__(
            content,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _cancel(self._jobs)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _cancel(jobs: Sequence[Job]) -> None:
    """End jobs that still run."""
    for job in jobs:
        job.is_cancelled = True
