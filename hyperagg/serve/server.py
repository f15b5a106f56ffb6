"""Runs the application with uvicorn: one worker in this process, or several with a supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from hyperagg._numba.cpus import default_threads
from hyperagg.serve.log import log_config
from hyperagg.serve.scope import BODY_ARRIVED
from hyperagg.serve.settings import Settings

__all__ = ["run"]

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

# The supervisor replaces a worker that is silent for so many seconds. On a busy machine, the start
# of a worker takes seconds; a worker that dies while it is being asked is noticed only then.
_WORKER_TIMEOUT = 10
_SHUTDOWN_TIMEOUT = 30


class _RequestParser:
    """The parser of a connection, which declines upgrades to other protocols than WebSocket.

    Some clients, such as those of Java, propose HTTP/2 (`Upgrade: h2c`) with a request that is to
    be answered in any case. The parser of httptools expects the other protocol after the headers,
    so the body would be lost; another parser reads the request without the proposal.
    """

    def __init__(self, protocol: _StrictHttp) -> None:
        self._protocol = protocol
        self._parser: Any = protocol.parser

    def feed_data(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._protocol.declines_upgrade():
                    raise
                data = self._protocol.head_without_upgrade() + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self._protocol)
                # As uvicorn has it.
                self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class _StrictHttp(HttpToolsProtocol):
    """HTTP/1.1 whose clients must send the headers of a request in time.

    uvicorn limits how long a connection may be idle between requests, but neither how long it may
    be silent before the first one nor how long headers may take.
    """

    def __init__(self, *args: Any, request_timeout: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = _RequestParser(self)  # type: ignore[assignment]
        self._request_timeout = request_timeout
        self._awaits_headers = True
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaits_headers = False
        self._watch_headers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Headers mostly arrive whole; then no timer is started.
        self._watch_headers()

    def on_message_begin(self) -> None:
        self._awaits_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._awaits_headers = False
        if not self.declines_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.declines_upgrade():
            self.scope[BODY_ARRIVED] = True  # type: ignore[literal-required]
            super().on_message_complete()

    def declines_upgrade(self) -> bool:
        """Whether the client proposes another protocol, which need not be accepted; a CONNECT has
        no other meaning."""
        return (
            self.parser.should_upgrade()
            and self.parser.get_method() != b"CONNECT"
            and not self._should_upgrade()
        )

    def head_without_upgrade(self) -> bytes:
        """Return the first line and the headers of the request without the proposal."""
        version = self.parser.get_http_version().encode()
        parts = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                parts += [name, b": ", value, b"\r\n"]
        return b"".join([*parts, b"\r\n"])

    def _watch_headers(self) -> None:
        if self._awaits_headers and self._header_timer is None:
            self._header_timer = self.loop.call_later(
                self._request_timeout, self.timeout_keep_alive_handler
            )
        elif not self._awaits_headers and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class _Announcement:
    """Logs that this process answers requests; uvicorn calls it for the first time then."""

    def __init__(self, message: str) -> None:
        self.message, self.is_logged = message, False

    async def __call__(self) -> None:
        if not self.is_logged:
            logger.info(self.message)
            self.is_logged = True


@dataclass(frozen=True)
class _Factory:
    """Makes the application in a worker; it is sent there by pickling."""

    sources: Sequence[str]
    settings: Settings
    threads: int

    def load(self) -> FastAPI:
        # Imported here: until a worker has imported this module it does not answer its supervisor.
        from hyperagg.serve.app import create_app
        from hyperagg.serve.models import load_models

        return create_app(load_models(self.sources, threads=self.threads), self.settings)

    def __call__(self) -> FastAPI:
        try:
            return self.load()
        except (ValueError, OSError, ImportError) as error:
            # The supervisor gives up on this exit code; it would replace a worker that raises.
            print(f"hyperagg: {' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)
            sys.exit(STARTUP_FAILURE)


def run(
    sources: Sequence[str],
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    threads: int | None = None,
) -> None:
    """Serve models until SIGTERM or Ctrl-C; requests that run by then are finished.

    Args:
        sources: folders of saved models, or repository ids of the Hugging Face Hub.
        settings: the limits.
        host, port: the address to listen at; port 0 takes a free one.
        workers: the number of processes. They share one copy of mapped parameters, and one that
            dies is replaced.
        threads: the number of threads per worker (default: the processors divided by the number of
            workers).

    Raises:
        ValueError: a model cannot be loaded, or the address cannot be used.
    """
    from hyperagg.serve.models import model_names

    if settings.feedback_token is not None and workers > 1:
        raise ValueError(
            f"--workers {workers}: feedback changes the model of one process; use --workers 1"
        )
    model_names(sources)  # an error of the command line, before anything starts
    with _bind(host, port) as listener:
        threads = threads or max(1, default_threads() // workers)
        factory = _Factory(sources, settings, threads)
        where = f"[{host}]" if ":" in host else host
        names = ", ".join(model_names(sources))
        served = f"{names} at http://{where}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            factory if workers > 1 else factory.load(),
            factory=workers > 1,
            host=host,
            port=port,
            workers=workers,
            http=partial(_StrictHttp, request_timeout=settings.request_timeout),  # type: ignore[arg-type]
            ws="websockets-sansio",
            ws_max_size=settings.max_body_bytes,
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
            timeout_worker_healthcheck=_WORKER_TIMEOUT,
            access_log=False,
            callback_notify=_Announcement(f"serving {served}"),
            server_header=False,
            log_config=log_config(access_log=settings.access_log),
        )
        logger.info(f"starting to serve {names}")
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listener])
            return
        with tempfile.TemporaryDirectory(prefix="hyperagg-metrics-") as folder:
            # Workers read it when they import the metrics.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            supervisor = Multiprocess(config, sockets=[listener])
            supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise ValueError("no worker could start; see the messages above")


def _bind(host: str, port: int) -> socket.socket:
    """Reserve the address; a server listens to it as soon as it is ready."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"--host {host} --port {port}: cannot be used ({reason})") from error
    listener.set_inheritable(True)
    return listener
