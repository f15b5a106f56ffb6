"""Requests/s, latency and memory of `hyperagg serve`, beside empty routes and fastText in FastAPI.

Every server runs alone, with the same options of uvicorn and without access logs; in each round all
of them are measured one after another, after a warm-up. The client is one process of this machine,
so with two cores and two workers it competes with them.

The load is the number of connections: each asks again as soon as it has its answer, so all of them
wait for an answer at any time. `hyperagg serve` is measured at half of the connections as well.
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
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier
from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, write_results
from hyperagg.data import Dataset
from research.benchmarks.http_load import measure_load, request_bytes
from research.benchmarks.pipelines import train_fasttext
from research.benchmarks.predict import cpu_seconds_of_family, memory_of_family

__all__ = ["FULL_SERVE", "QUICK_SERVE", "SERVERS", "ServeEffort", "bench_serve", "serve_table"]

logger = logging.getLogger(__name__)

HYPERAGG, EMPTY, EMPTY_STARLETTE, FASTTEXT = (
    "hyperagg serve",
    "empty FastAPI route",
    "empty Starlette route",
    "FastAPI with fastText",
)
# By the names of the command line.
SERVERS = {
    "hyperagg": HYPERAGG,
    "fastapi": EMPTY,
    "starlette": EMPTY_STARLETTE,
    "fasttext": FASTTEXT,
}
_FUNCTIONS = {
    EMPTY: "empty_fastapi",
    EMPTY_STARLETTE: "empty_starlette",
    FASTTEXT: "fasttext_route",
}
# What identifies a measurement.
_CELL = ("workers", "words", "connections", "round", "server")
_SOAK_PARTS = 10


@dataclass(frozen=True)
class ServeEffort:
    """How much is measured.

    Args:
        connections: numbers of connections.
        workers: numbers of processes.
        words: lengths of the texts in words.
        servers: what is measured: values of `SERVERS` (default: all that are installed).
        seconds: how long each server is measured.
        rounds: number of times that each server is measured.
        soak_seconds: how long `hyperagg serve` is measured at the end, with the first of the
            connections, workers and words, to see whether its memory grows; 0 leaves it out.
        training_rows: number of texts to train the models on (default: all).
    """

    connections: Sequence[int] = (100, 1000, 10_000)
    workers: Sequence[int] = (1, 2)
    words: Sequence[int] = (10, 1000)
    servers: Sequence[str] | None = None
    seconds: float = 60.0
    rounds: int = 1
    soak_seconds: float = 600.0
    training_rows: int | None = None


FULL_SERVE = ServeEffort()
QUICK_SERVE = ServeEffort(
    connections=(4,), workers=(1,), words=(10,), seconds=0.3, soak_seconds=1.0, training_rows=300
)


def bench_serve(
    dataset: Dataset, effort: ServeEffort, folder: Path, *, resume: bool = False
) -> dict[str, Any]:
    """Measure servers under load.

    Args:
        dataset: its training texts train the models, and requests are made of them.
        effort: how much is measured.
        folder: where results.json goes, after each measurement, and table.md; models are temporary
            files in it.
        resume: whether to keep the measurements of a results.json in the folder.

    Raises:
        ValueError: a server is not installed, the system allows too few open files, or what is
            resumed was measured otherwise.
    """
    _allow_open_files(max(effort.connections))
    servers = _servers(effort.servers)
    results: dict[str, Any] = {
        "environment": environment() | {n: version(n) for n in ("fastapi", "uvicorn", "starlette")},
        "dataset": dataset.name,
        "seconds": effort.seconds,
        "training_rows": effort.training_rows,
        "runs": [],
        "soak": None,
    }
    if resume:
        _take_finished(results, folder / "results.json")
    finished = {tuple(run[name] for name in _CELL) for run in results["runs"]}
    cells = product(effort.workers, effort.words, effort.connections, range(effort.rounds), servers)
    train, number = dataset.train, effort.training_rows
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        classifier = TextClassifier().fit(train.texts[:number], train.labels[:number], seed=0)
        classifier.save_pretrained(work / "model")
        if FASTTEXT in servers:
            train_fasttext(train.texts[:number], train.labels[:number], work / "fasttext.bin")
        for cell in cells:
            if cell in finished:
                continue
            workers, words, connections, _, server = cell
            found = _measure(server, workers, words, connections, train.texts, effort, work)
            results["runs"].append({**dict(zip(_CELL, cell)), **found})
            _write(folder, results)
        if effort.soak_seconds and results["soak"] is None:
            results["soak"] = _soak(train.texts, effort, work)
    _write(folder, results)
    return results


def _servers(names: Sequence[str] | None) -> list[str]:
    """The servers to measure, with `hyperagg serve`; fastText by default if it is installed."""
    has_fasttext = find_spec("fasttext") is not None
    if names is None:
        return [server for server in SERVERS.values() if has_fasttext or server != FASTTEXT]
    if FASTTEXT in names and not has_fasttext:
        raise ValueError("--servers fasttext: needs pip install fasttext")
    return list(names)


def _take_finished(results: dict[str, Any], path: Path) -> None:
    """Take the measurements of an interrupted benchmark."""
    if not path.is_file():
        return
    before = json.loads(path.read_text("utf-8"))
    for name in ("environment", "dataset", "seconds", "training_rows"):
        if before.get(name) != results[name]:
            raise ValueError(
                f"--resume: {path} was measured with another {name} ({before.get(name)}); expected "
                f"{results[name]}"
            )
    results["runs"], results["soak"] = before["runs"], before["soak"]


def _write(folder: Path, results: dict[str, Any]) -> None:
    write_results(folder, results)
    with atomic_write(folder / "table.md") as draft:
        draft.write_text(serve_table(results), "utf-8")


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
        half = None
        if server == HYPERAGG:
            half = measure_load(port, requests, max(connections // 2, 1), effort.seconds)
    logger.info(
        f"{server}, {workers} workers, {words} words, {connections} connections: "
        f"{found['requests_per_second']:,.0f} requests/s"
    )
    return {
        **found,
        # Unlike requests/s, it does not depend on what else the machine does.
        "cpu_microseconds_per_request": 1e6 * cpu / max(found["requests"], 1),
        "memory_bytes": {"start": before, "end": after},
        "half_load": half,
    }


def _soak(texts: Sequence[str], effort: ServeEffort, work: Path) -> dict[str, Any]:
    """Ask `hyperagg serve` for long, in parts between which its memory is read."""
    workers, words, connections = effort.workers[0], effort.words[0], effort.connections[0]
    requests = _requests(texts, words)
    seconds = effort.soak_seconds / _SOAK_PARTS
    with _running(HYPERAGG, workers, work) as (process, port):
        measure_load(port, requests, connections, min(seconds, 10))
        memory, parts = [memory_of_family(process.pid)], []
        for _ in range(_SOAK_PARTS):
            parts.append(measure_load(port, requests, connections, seconds))
            memory.append(memory_of_family(process.pid))
    return {
        "workers": workers,
        "words": words,
        "connections": connections,
        "seconds": effort.soak_seconds,
        "requests": sum(part["requests"] for part in parts),
        "errors": sum(sum(part["errors"].values()) for part in parts),
        "memory_bytes": memory,
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


def serve_table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown: medians over the rounds, and the soak."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in results["runs"]:
        key = run["workers"], run["words"], run["connections"], run["server"]
        groups.setdefault(key, []).append(run)

    def median(runs: Sequence[Mapping[str, Any]], *path: str) -> float:
        values = []
        for run in runs:
            value: Any = run
            for name in path:
                value = value[name]
            values.append(value)
        return float(np.median(values))

    rows = []
    for (workers, words, connections, server), runs in groups.items():
        rate = median(runs, "requests_per_second")
        empty = groups.get((workers, words, connections, EMPTY))
        fraction = rate / median(empty, "requests_per_second") if empty else None
        half = median(runs, "half_load", "p99_ms") if server == HYPERAGG else None
        rows.append(
            (
                server,
                str(workers),
                str(words),
                f"{connections:,}",
                f"{rate:,.0f}",
                "" if fraction is None else f"{100 * fraction:.0f} %",
                f"{median(runs, 'cpu_microseconds_per_request'):.0f} µs",
                f"{median(runs, 'p50_ms'):,.1f} ms",
                f"{median(runs, 'p99_ms'):,.1f} ms",
                "" if half is None else f"{half:,.1f} ms",
                f"{sum(sum(run['errors'].values()) for run in runs)}",
                f"{median(runs, 'memory_bytes', 'start') / 1e6:,.0f} MB",
                f"{median(runs, 'memory_bytes', 'end') / 1e6:,.0f} MB",
            )
        )
    columns = (
        *("server", "workers", "words", "connections", "requests/s", "of empty FastAPI"),
        *("processor time per request", "p50", "p99", "p99 at half of the connections", "errors"),
        *("memory at the start", "memory at the end"),
    )
    table = markdown_table(columns, rows)
    soak = results["soak"]
    if soak is not None:
        first, *_, last = soak["memory_bytes"]
        table += (
            f"\n`hyperagg serve` for {soak['seconds'] / 60:.0f} minutes with "
            f"{soak['connections']:,} connections and texts of {soak['words']} words: "
            f"{soak['requests']:,} answers, {soak['errors']} errors, {first / 1e6:,.1f} MB of "
            f"memory at the start and {last / 1e6:,.1f} MB at the end.\n"
        )
    return table


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
