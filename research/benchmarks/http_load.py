"""A client that asks over many connections at a time: one process, one thread."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

__all__ = ["Load", "measure_load", "request_bytes"]

# Connections are opened in groups, because the queue of a listening socket is bounded.
_OPENED_AT_A_TIME = 200


@dataclass
class Load:
    """What came back.

    Args:
        seconds: how long answers were counted.
        latencies: (answers,) seconds from a request to the end of its answer.
        errors: number of connections lost, and of answers with another status than 200, by kind.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return requests/s, percentiles of the latency in milliseconds, and errors."""
        p50, p99 = np.percentile(self.latencies or [np.nan], [50, 99]) * 1000
        return {
            "requests_per_second": len(self.latencies) / self.seconds,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "requests": len(self.latencies),
            "errors": dict(self.errors),
        }


def request_bytes(body: bytes) -> bytes:
    """Return a POST of JSON to /predict."""
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def measure_load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, warm_up: float = 1.0
) -> dict[str, Any]:
    """Ask a server for some time, each connection as soon as its last answer is complete.

    Args:
        port: of a server on this machine.
        requests: what is sent, in turn.
        connections: number of connections that are open at a time.
        seconds: how long answers are counted.
        warm_up: seconds before that.

    Returns:
        see `Load.summary`.
    """
    import uvloop

    return uvloop.run(_measure(port, requests, connections, seconds, warm_up)).summary()


async def _measure(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, warm_up: float
) -> Load:
    loop, load = asyncio.get_running_loop(), Load()
    opened: list[_Client] = []
    for begin in range(0, connections, _OPENED_AT_A_TIME):
        group = [
            loop.create_connection(partial(_Client, load, requests, i), "127.0.0.1", port)
            for i in range(begin, min(begin + _OPENED_AT_A_TIME, connections))
        ]
        for done in await asyncio.gather(*group, return_exceptions=True):
            if isinstance(done, BaseException):
                load.errors["not connected"] += 1
            else:
                opened.append(done[1])
    for client in opened:
        client.ask()
    await asyncio.sleep(warm_up)
    load.latencies.clear()
    load.errors.pop("lost", None)
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    load.seconds = time.perf_counter() - begun
    result = Load(load.seconds, list(load.latencies), Counter(load.errors))
    for client in opened:
        client.close()
    return result


class _Client(asyncio.Protocol):
    """One connection. It reads of HTTP what the servers that are compared write."""

    def __init__(self, load: Load, requests: Sequence[bytes], index: int) -> None:
        self._load, self._requests, self._index = load, requests, index
        self._closing = False
        self._received, self._length = b"", 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self) -> None:
        self._received, self._length = b"", 0
        self._begun = time.perf_counter()
        self._index += 1
        if not self._transport.is_closing():
            self._transport.write(self._requests[self._index % len(self._requests)])

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length:
            head, separator, _ = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            _, _, after = head.lower().partition(b"content-length:")
            self._length = len(head) + 4 + int(after.split(b"\r\n", 1)[0])
        if len(self._received) < self._length:
            return
        if self._received.startswith(b"HTTP/1.1 200"):
            self._load.latencies.append(time.perf_counter() - self._begun)
        else:
            self._load.errors[self._received[9:12].decode("ascii", "replace")] += 1
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._load.errors["lost"] += 1

    def close(self) -> None:
        self._closing = True
        self._transport.abort()
