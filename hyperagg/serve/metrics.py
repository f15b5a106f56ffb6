"""Counts and durations of requests, and counts of tokens, in the format of Prometheus.

Several workers write to files of the folder PROMETHEUS_MULTIPROC_DIR, which must be set before this
module is imported; each of them then reports the sum over all workers.
"""

from __future__ import annotations

import os
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

__all__ = ["count_request", "count_tokens", "metrics_text"]

_requests = Counter("hyperagg_requests", "Number of requests.", ["route", "status"])
_durations = Histogram(
    "hyperagg_request_duration_seconds",
    "Time from the headers of a request to the end of its answer.",
    ["route"],
    buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
_tokens = Counter(
    "hyperagg_tokens",
    "Number of tokens of language models: of prompts that were read, of prompts whose state was "
    "kept, and generated ones.",
    ["kind"],
)
# `labels` takes longer than counting. The names of routes and statuses are few.
_known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}


def count_request(route: str, status: int, seconds: float) -> None:
    """Count a request that has been answered.

    Args:
        route: the name of the function that answered it, not the path, which clients choose.
        status: the status of the answer; 0 if the client left before it.
        seconds: how long it took.
    """
    found = _known.get((route, status))
    if found is None:
        found = _requests.labels(route, str(status)), _durations.labels(route)
        _known[route, status] = found
    found[0].inc()
    found[1].observe(seconds)


def count_tokens(kind: Literal["read", "kept", "generated"], number: int) -> None:
    """Count tokens of a language model.

    Args:
        kind: "read" and "kept" are tokens of prompts; the state after the latter was kept.
        number: how many.
    """
    _tokens.labels(kind).inc(number)


def metrics_text() -> bytes:
    """Return the metrics of all workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
