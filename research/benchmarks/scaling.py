"""How the training time of the classifier goes down with the number of threads.

Whole runs are measured with each number of threads, and again beside a busy loop on every core.
For more cores than the machine has, there is an estimate from what is measured on one thread:

    seconds(n)  =  serial + parallel / n + sum over the phases of all blocks of
                   seconds of the phase * max(ceil(tasks / n) / tasks, largest task) + join

Serial and parallel are the parts of a run outside its epochs (Amdahl 1967), of which one and two
threads take serial + parallel and serial + parallel / 2. A phase has at most as many tasks as
`train_step` gives it, and the largest task is that of the owner of the most frequent tokens.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier
from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, write_results
from hyperagg._numba import tasks
from hyperagg._numba.cache import njit
from hyperagg._numba.cpus import usable_cpus
from hyperagg.classifier.kernels.train_step import (
    MIN_TOKENS_PER_TASK,
    OWNERS,
    SHARE,
    Batch,
    divide_into_blocks,
)
from hyperagg.classifier.training.loop import TOKENS_PER_CHUNK
from hyperagg.data import Dataset
from research.benchmarks.busy import busy_loops
from research.benchmarks.text import DIMENSION, FEATURES

__all__ = ["FULL_SCALING", "QUICK_SCALING", "ScalingEffort", "bench_scaling", "write_scaling_page"]

logger = logging.getLogger(__name__)

_ESTIMATED = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class ScalingEffort:
    """How much is measured: epochs per run, rounds of runs, and phases to time a join."""

    epochs: int = 5
    rounds: int = 5
    phases: int = 20_000


FULL_SCALING = ScalingEffort()
QUICK_SCALING = ScalingEffort(epochs=1, rounds=1, phases=20)


def bench_scaling(
    datasets: Sequence[Dataset],
    threads: Sequence[int] = (1, 2, 4, 8, 16),
    effort: ScalingEffort = FULL_SCALING,
) -> dict[str, Any]:
    """Measure whole runs on idle and on busy cores, and estimate them for more cores.

    Returns:
        What `write_scaling_page` takes.
    """
    join = _seconds_per_join(effort.phases)
    rows = []
    for data in datasets:
        for features, (arguments, _) in FEATURES.items():
            logger.info("%s, %s", data.name, features)
            idle = _times(data, arguments, threads, effort)
            with busy_loops(os.sched_getaffinity(0)):
                busy = _times(data, arguments, threads, effort)
            rows.append(
                {
                    "dataset": data.name,
                    "features": features,
                    "seconds": {n: each["run"] for n, each in idle.items()},
                    "seconds_on_busy_cores": {n: each["run"] for n, each in busy.items()},
                    "account": _account(data, arguments, idle, join, effort),
                }
            )
    return {
        "environment": environment(),
        "dimension": DIMENSION,
        "epochs": effort.epochs,
        "rounds": effort.rounds,
        "join_microseconds": 1e6 * join,
        "rows": rows,
    }


def write_scaling_page(folder: Path, results: dict[str, Any]) -> None:
    """Write results.json and README.md to `folder`."""
    write_results(folder, results)
    with atomic_write(folder / "README.md") as draft:
        draft.write_text(_page(results), "utf-8")


def _times(
    data: Dataset, arguments: dict[str, Any], threads: Sequence[int], effort: ScalingEffort
) -> dict[int, dict[str, float]]:
    """Return the median seconds of whole runs and of their epochs, by number of threads."""
    found: dict[int, list[tuple[float, float]]] = {n: [] for n in threads}
    for number in range(effort.rounds + 1):
        for n in threads:
            clf = TextClassifier(
                d_model=DIMENSION, epochs=effort.epochs, validation_fraction=0.0, threads=n,
                **arguments,
            )  # fmt: skip
            started = time.perf_counter()
            clf.fit(data.train.texts, data.train.labels, progress=False)
            if number:  # the first round is a warm-up
                found[n].append((time.perf_counter() - started, sum(clf.history_.seconds)))
    medians = {n: np.median(each, axis=0) for n, each in found.items()}
    return {n: {"run": float(run), "epochs": float(e)} for n, (run, e) in medians.items()}


@njit(nogil=True, cache=True)
def _join(counters, phases, threads):
    for phase in range(phases):
        task = tasks.claim(counters, phase)
        while task < threads:
            tasks.finish(counters, phase)
            task = tasks.claim(counters, phase)
        tasks.wait(counters, phase, threads)


def _seconds_per_join(phases: int) -> float:
    """Seconds per phase of two threads that have nothing to compute."""
    _join(tasks.new_counters(1), 1, 1)  # compiles
    counters = tasks.new_counters(phases)
    other = threading.Thread(target=_join, args=(counters, phases, 2))
    started = time.perf_counter()
    other.start()
    _join(counters, phases, 2)
    other.join()
    return (time.perf_counter() - started) / phases


def _account(
    data: Dataset,
    arguments: dict[str, Any],
    times: dict[int, dict[str, float]],
    join: float,
    effort: ScalingEffort,
) -> dict[str, Any]:
    """Return the serial part, the bytes moved, and the estimated seconds by number of threads."""
    clf = TextClassifier(d_model=DIMENSION, epochs=1, validation_fraction=0.0, **arguments)
    clf.fit(data.train.texts, data.train.labels, progress=False)
    encoded = clf.tokenizer_.encode(data.train.texts)
    total = len(encoded.token_ids)
    owners = np.bincount(encoded.token_ids % OWNERS, minlength=OWNERS)
    largest = float(owners.max() / max(1, total))
    empty = np.empty(0, np.float32)
    batch = Batch(encoded.token_ids, empty, encoded.cu_seqlens, empty, empty, empty)
    documents, chunks = len(encoded), max(1, total // TOKENS_PER_CHUNK)
    borders = np.arange(chunks + 1) * documents // chunks
    one = times[min(times)]
    serial, shared = _outside_epochs(times)
    per_token = one["epochs"] / max(1, total * effort.epochs)
    estimated, phases = {n: serial + shared / n for n in _ESTIMATED}, 0
    for epoch in range(effort.epochs):
        order = np.random.default_rng([0, epoch]).permutation(documents)
        for first, last in zip(borders, borders[1:]):
            before = epoch * documents + int(first)
            plan, _, _ = divide_into_blocks(batch, order[first:last], before, len(clf.classes_))
            for start, end in zip(plan.boundaries, plan.boundaries[1:]):
                tokens = int(plan.token_offsets[end] - plan.token_offsets[start])
                worthwhile = 1 + tokens // MIN_TOKENS_PER_TASK
                phases += 2
                gradient_tasks = min(-(-int(end - start) // SHARE), worthwhile)
                update_tasks = min(OWNERS, worthwhile)
                for n in _ESTIMATED:
                    # Each phase is taken to be half of the time.
                    parallel = math.ceil(gradient_tasks / n) / gradient_tasks
                    owned = max(math.ceil(update_tasks / n) / update_tasks, largest)
                    estimated[n] += per_token * tokens * (parallel + owned) / 2
                    estimated[n] += 2 * join if n > 1 else 0
    row_bytes = 4 * 16 * -(-DIMENSION // 16)
    return {
        "serial": serial,
        "serial_share": serial / one["run"],
        "parallel_outside_epochs": shared,
        "nanoseconds_per_token": 1e9 * per_token,
        # A row is read for the gradients, and read and written for the updates.
        "bytes_per_token": 3 * row_bytes + 2 * 12,
        "largest_owner": largest,
        "joins": phases,
        "estimate": estimated,
    }


def _outside_epochs(times: dict[int, dict[str, float]]) -> tuple[float, float]:
    """Return the serial and the parallel seconds outside the epochs of a run on one thread."""
    rest = {n: max(0.0, each["run"] - each["epochs"]) for n, each in times.items()}
    if 1 not in rest or 2 not in rest or usable_cpus() < 2:
        return rest[min(rest)], 0.0
    serial = min(max(0.0, 2 * rest[2] - rest[1]), rest[1])
    return serial, rest[1] - serial


def _page(results: dict[str, Any]) -> str:
    machine = results["environment"]
    rows = results["rows"]
    threads = list(rows[0]["seconds"])

    def table(key: str) -> str:
        body = [
            [f"{row['dataset']}, {row['features']}", *(f"{t:.2f}" for t in row[key].values())]
            for row in rows
        ]
        return markdown_table(["threads", *map(str, threads)], body)

    account = [
        [
            f"{row['dataset']}, {row['features']}",
            f"{own['serial']:.2f}",
            f"{100 * own['serial_share']:.0f}",
            f"{own['parallel_outside_epochs']:.2f}",
            f"{own['nanoseconds_per_token']:.1f}",
            f"{own['bytes_per_token']:,}",
            f"{own['bytes_per_token'] / own['nanoseconds_per_token']:.0f}",
            f"{100 * own['largest_owner']:.1f}",
            f"{own['joins']:,}",
            *(f"{seconds:.2f}" for seconds in own["estimate"].values()),
        ]
        for row in rows
        for own in [row["account"]]
    ]
    columns = [
        "",
        "serial, s",
        "serial, %",
        "parallel outside epochs, s",
        "ns per token",
        "bytes per token",
        "GB/s per thread",
    ]
    columns += ["largest owner, %", "joins", *(f"{n} cores, s" for n in _ESTIMATED)]
    return f"""# Training time by number of threads

Written by `python -m research bench scaling` from results.json beside it; do not edit.

{machine["processor"]}, {machine["cores"]} cores, numba {machine["numba"]}, hyperagg
{machine["hyperagg"]}, commit {machine["commit"]}. Whole runs from texts to a model,
{results["epochs"]} epochs, dimension {results["dimension"]}; medians of {results["rounds"]}
interleaved runs, in seconds.

## Idle cores

{table("seconds")}
No more threads are started than there are cores.

## A busy loop on every core

{table("seconds_on_busy_cores")}
## Where the time goes on more cores

{markdown_table(columns, account)}
An estimate from one and two threads, not a measurement. Serial and parallel: the parts of a run
outside its epochs, from the times of both. The epochs are divided among the tasks of each phase, of
which the largest owner of rows is never divided. A join of two threads takes
{results["join_microseconds"]:.1f} microseconds. The bandwidth that n threads need
together is n times that of one, if no row is in a cache; it must be below that of the memory.
"""
