"""Requests/s, latency and memory of `hyperagg serve`, beside empty routes and fastText in FastAPI.

Every server runs alone, with the same options of uvicorn and without access logs; in each round all
of them are measured one after another, after a warm-up. The client is one process of this machine,
so with two cores and two workers it competes with them.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier
from hyperagg._common.report import environment, write_results
from hyperagg.data import Dataset
from research.benchmarks.http_load import measure_load, request_bytes
from research.benchmarks.pipelines import train_fasttext
from research.benchmarks.predict import cpu_seconds_of_family, memory_of_family

__all__ = ["FULL_SERVE", "QUICK_SERVE", "ServeEffort", "bench_serve"]

logger = logging.getLogger(__name__)

HYPERAGG, EMPTY, EMPTY_STARLETTE, FASTTEXT = (
    "hyperagg serve",
    "empty FastAPI route",
    "empty Starlette route",
    "FastAPI with fastText",
)
_FUNCTIONS = {
    EMPTY: "empty_fastapi",
    EMPTY_STARLETTE: "empty_starlette",
    FASTTEXT: "fasttext_route",
}


@dataclass(frozen=True)
class ServeEffort:
    """How much is measured.

    Args:
        connections: numbers of connections.
        workers: numbers of processes.
        words: lengths of the texts in words.
        seconds: how long each server is measured.
        rounds: number of times that each server is measured.
        training_rows: number of texts to train the models on (default: all).
    """

    connections: Sequence[int] = (100, 1000, 10_000)
    workers: Sequence[int] = (1, 2)
    words: Sequence[int] = (10, 1000)
    seconds: float = 60.0
    rounds: int = 1
    training_rows: int | None = None


FULL_SERVE = ServeEffort()
QUICK_SERVE = ServeEffort(
    connections=(4,), workers=(1,), words=(10,), seconds=0.3, training_rows=300
)


def bench_serve(dataset: Dataset, effort: ServeEffort, folder: Path) -> dict[str, Any]:
    """Measure servers under load.

    fastText is measured if it is installed.

    Args:
        dataset: its training texts train the models, and requests are made of them.
        effort: how much is measured.
        folder: where results.json goes; models are temporary files in it.
    """
    _allow_open_files(max(effort.connections))
    train, number = dataset.train, effort.training_rows
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        classifier = TextClassifier().fit(train.texts[:number], train.labels[:number], seed=0)
        classifier.save_pretrained(work / "model")
        servers = [HYPERAGG, EMPTY, EMPTY_STARLETTE]
        if find_spec("fasttext"):
            train_fasttext(train.texts[:number], train.labels[:number], work / "fasttext.bin")
            servers.append(FASTTEXT)
        runs = [
            {
                "server": server,
                "workers": workers,
                "words": words,
                "connections": connections,
                "round": done,
                **_measure(server, workers, words, connections, train.texts, effort, work),
            }
            for workers in effort.workers
            for words in effort.words
            for connections in effort.connections
            for done in range(effort.rounds)
            for server in servers
        ]
    results = {
        "environment": environment() | {n: version(n) for n in ("fastapi", "uvicorn", "starlette")},
        "dataset": dataset.name,
        "effort": vars(effort),
        "ratios": _ratios(runs),
        "runs": runs,
    }
    write_results(folder, results)
    return results


def _measure(
    server: str,
    workers: int,
    words: int,
    connections: int,
    texts: Sequence[str],
    effort: ServeEffort,
    work: Path,
) -> dict[str, Any]:
    requests = _requests(texts, words)
    with _running(server, workers, work) as (process, port):
        # Every worker has answered before memory is read.
        measure_load(port, requests, 16, effort.seconds / 10)
        before, cpu_before = memory_of_family(process.pid), cpu_seconds_of_family(process.pid)
        found = measure_load(port, requests, connections, effort.seconds, warm_up=0)
        cpu = cpu_seconds_of_family(process.pid) - cpu_before
        after = memory_of_family(process.pid)
    logger.info(
        f"{server}, {workers} workers, {words} words, {connections} connections: "
        f"{found['requests_per_second']:,.0f} requests/s"
    )
    return {
        **found,
        # Unlike requests/s, it does not depend on what else the machine does.
        "cpu_microseconds_per_request": 1e6 * cpu / max(found["requests"], 1),
        "memory_bytes": {"start": before, "end": after},
    }


def _requests(texts: Sequence[str], words: int) -> list[bytes]:
    """64 requests, each with a text of so many words."""
    rng = np.random.default_rng(0)
    requests = []
    for _ in range(64):
        text: list[str] = []
        while len(text) < words:
            text += texts[int(rng.integers(len(texts)))].split()
        requests.append(request_bytes(json.dumps({"inputs": " ".join(text[:words])}).encode()))
    return requests


@contextmanager
def _running(server: str, workers: int, work: Path) -> Iterator[tuple[Any, int]]:
    """A server that is ready, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    if server == HYPERAGG:
        command = ["hyperagg", "serve", str(work / "model"), *options]
        # The benchmark asks for more at a time than a server should admit.
        command += ["--max-concurrent-requests", "100000"]
    else:
        application = f"research.benchmarks.serve_baselines:{_FUNCTIONS[server]}"
        command = ["uvicorn", application, "--factory", *options, "--log-level", "warning"]
    environ = {**os.environ, "FASTTEXT_MODEL": str(work / "fasttext.bin")}
    log = work / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", *command], env=environ, stderr=stderr)
    try:
        _wait_for(process, port, log)
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_for(process: Any, port: int, log: Path) -> None:
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text('utf-8')[-500:]}")


def _ratios(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The requests/s of `hyperagg serve` as fractions of those of the others, in medians."""
    rates: dict[tuple[int, int, int], dict[str, list[float]]] = {}
    for run in runs:
        own = rates.setdefault((run["workers"], run["words"], run["connections"]), {})
        own.setdefault(run["server"], []).append(run["requests_per_second"])
    return [
        {
            "workers": workers,
            "words": words,
            "connections": connections,
            **{
                name: float(np.median(own[HYPERAGG]) / np.median(values))
                for name, values in own.items()
                if name != HYPERAGG
            },
        }
        for (workers, words, connections), own in rates.items()
    ]


def _allow_open_files(connections: int) -> None:
    """Raise the limit on open files, which servers inherit, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 500
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ValueError(
            f"--connections {connections}: the system allows {hard} open files; expected a limit "
            f"of at least {needed} (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
