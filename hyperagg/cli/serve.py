"""hyperagg serve: an HTTP server for models."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLE = "Example: hyperagg serve model --port 8000 --workers 2"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, or model ids of the hub. The routes of the first one are at the "
            "root, and those of each below /models/NAME.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every one of the machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes; they share mapped parameters.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads per worker, at most one per usable processor (default: the processors "
            "divided by the number of workers).",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="HYPERAGG_API_KEY",
            help="Key that requests must send as `Authorization: Bearer KEY`. The environment "
            "variable keeps it out of the list of processes.",
        ),
    ] = None,
    allow_feedback: Annotated[
        bool,
        typer.Option(
            "--allow-feedback", help="Let /feedback continue training and save the model."
        ),
    ] = False,
    feedback_token: Annotated[
        str | None,
        typer.Option(envvar="HYPERAGG_FEEDBACK_TOKEN", help="Key that /feedback requires."),
    ] = None,
    max_body_bytes: Annotated[
        int, typer.Option(min=1, help="Maximum size of a request's body.")
    ] = 2_000_000,
    max_texts: Annotated[
        int, typer.Option(min=1, help="Maximum number of texts per request.")
    ] = 1000,
    max_characters: Annotated[
        int, typer.Option(min=1, help="Maximum number of characters per text.")
    ] = 200_000,
    max_concurrent_requests: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of requests that a worker handles at a time."),
    ] = 512,
    request_timeout: Annotated[
        float, typer.Option(help="Seconds in which the headers, and then the body, must arrive.")
    ] = 10.0,
    max_prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Language models: maximum number of tokens of a prompt.")
    ] = 131_072,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Language models: maximum number of tokens to generate.")
    ] = 4096,
    max_generations: Annotated[
        int,
        typer.Option(
            min=1, help="Language models: maximum number of prompts that are answered at a time."
        ),
    ] = 64,
    access_log: Annotated[
        bool, typer.Option("--access-log/--no-access-log", help="Log each request.")
    ] = True,
) -> None:
    """Serve models over HTTP.

    The routes are listed at /docs. Logs are lines of JSON on standard error and do not hold the
    texts of requests.
    """
    from hyperagg._numba.cpus import usable_cpus
    from hyperagg.serve import Settings, run
    from hyperagg.serve.language.settings import LanguageSettings

    if allow_feedback and feedback_token is None:
        raise ValueError(
            "--allow-feedback: needs a key; pass --feedback-token or set HYPERAGG_FEEDBACK_TOKEN"
        )
    settings = Settings(
        api_key=api_key,
        feedback_token=feedback_token if allow_feedback else None,
        max_body_bytes=max_body_bytes,
        max_texts=max_texts,
        max_characters=max_characters,
        max_concurrent_requests=max_concurrent_requests,
        request_timeout=request_timeout,
        access_log=access_log,
        language=LanguageSettings(
            max_prompt_tokens=max_prompt_tokens,
            max_tokens=max_tokens,
            max_generations=max_generations,
        ),
    )
    if threads is not None:
        threads = min(threads, usable_cpus())
    run(models, settings, host=host, port=port, workers=workers, threads=threads)
