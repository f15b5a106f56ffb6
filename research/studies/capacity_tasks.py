"""Which d a task asks of each mixer at which n: sums beside attention, and beside none.

All mixers have the same blocks and as many weights in them, the same steps of the same rows, and a
rate each for every task, the better of RATES on held-out rows at the greatest d and the shortest n.
Test rows decide nothing.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from transformers import set_seed

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from research.studies.sequence_reader import MIXERS, Reader, accuracy, train
from research.studies.sequence_tasks import TASKS, MadeUp, Rows

__all__ = ["RATES", "TASKS", "task_tables", "trained_tasks"]

RATES = (2e-3, 8e-3)
# Of the way from the most frequent answer to no error.
REACHED = 0.9
_HELD, _TEST = 512, 1024


@dataclass
class _Data:
    """Rows of a task at one n: to learn from, to choose by, to measure on."""

    name: str
    n: int
    held: Rows = field(init=False)
    test: Rows = field(init=False)
    chance: float = field(init=False)

    def __post_init__(self) -> None:
        self.task = TASKS[self.name]
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), self.n])
        if isinstance(self.task, MadeUp):
            self.held, self.test = (self.task.rows(self.n, k, rng) for k in (_HELD, _TEST))
            counted = self.held.labels
        else:
            rows, test = self.task.load(self.n)
            order, tested = rng.permutation(len(rows.labels)), rng.permutation(len(test.labels))
            self.held, self.train = rows.take(order[:_HELD]), rows.take(order[_HELD:])
            self.test = test.take(tested[:_TEST])
            counted = self.train.labels
        answer = Counter(counted.ravel().tolist()).most_common(1)[0][0]
        self.chance = float((self.test.labels == answer).mean())

    @property
    def batch_size(self) -> int:
        """A step has about as many tokens at every n, and a real one twice as many."""
        tokens = 1024 if isinstance(self.task, MadeUp) else 2048
        return max(4, min(32, tokens // self.held.inputs.shape[1]))

    def batches(self, seed: int) -> Callable[[int], Rows]:
        rng = np.random.default_rng(seed)
        if isinstance(self.task, MadeUp):
            made_up = self.task
            return lambda step: made_up.rows(self.n, self.batch_size, rng)
        return lambda step: self.train.take(
            rng.integers(0, len(self.train.labels), self.batch_size)
        )


def trained_tasks(
    out: Path,
    *,
    tasks: Sequence[str] = tuple(TASKS),
    dimensions: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    steps: int = 500,
    seeds: int = 1,
    resume: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train every mixer on every task, d and n; write results.json and two tables.

    Args:
        out: the folder.
        tasks: names of TASKS.
        dimensions, lengths: d and n; None: those of each task.
        steps: of training.
        seeds: of weights and rows; the rate is chosen with the first.
        resume: go on after the last run of an earlier call, be it with other tasks or sizes.
        progress: show a bar.
        say: told in a line what was measured.

    Returns:
        the contents of results.json.

    Raises:
        ValueError: a task that is not known, sizes that are too small, or what is in `out` was
            trained otherwise.
    """
    for name in tasks:
        if name not in TASKS:
            raise ValueError(f"there is no task {name}; there are {', '.join(TASKS)}")
    if min(lengths or [32]) < 32:
        raise ValueError(f"lengths: {min(lengths or ())}; the tasks take 32 tokens or more")
    for d in dimensions or ():
        if d != 8 and (d < 16 or d % 16):
            raise ValueError(f"dimensions: {d}; give 8 or multiples of 16, for attention's heads")
    runs = Runs(out / "runs.json", f"tasks, {steps} steps", resume)
    found: dict[str, Any] = {}
    for name in tasks:
        sizes = sorted(dimensions or TASKS[name].dimensions)
        study = _Study(name, sizes, sorted(lengths or TASKS[name].lengths), steps, seeds, runs)
        found[name] = study.measured(progress, say)
    results = {
        "steps": steps,
        "seeds": seeds,
        "rates": list(RATES),
        "environment": environment(),
        "tasks": found,
    }
    write_results(out, results)
    for file, table in task_tables(results).items():
        with atomic_write(out / file) as draft:
            draft.write_text(table, "utf-8")
    return results


class _Study:
    """One task."""

    def __init__(
        self,
        name: str,
        dimensions: list[int],
        lengths: list[int],
        steps: int,
        seeds: int,
        runs: Runs,
    ) -> None:
        self.name, self.dimensions, self.lengths = name, dimensions, lengths
        self.steps, self.seeds, self.runs = steps, seeds, runs
        # What answers at its last places alone needs to look back.
        self.mixers = [m for m in MIXERS if m != "none" or not isinstance(TASKS[name], MadeUp)]

    def measured(self, progress: bool, say: Callable[[str], None]) -> dict[str, Any]:
        rates: dict[str, float] = {}
        cells: dict[str, Any] = {}
        for n in self.lengths:
            data = _Data(self.name, n)
            for mixer in self.mixers:
                if mixer not in rates:
                    widest = self.dimensions[-1]
                    tried = {r: self._run(data, mixer, widest, r, 0, progress) for r in RATES}
                    rates[mixer] = max(tried, key=lambda r: tried[r]["held"])
                for d in self.dimensions:
                    made = [
                        self._run(data, mixer, d, rates[mixer], seed, progress)
                        for seed in range(self.seeds)
                    ]
                    cells[f"{mixer}|{d}|{n}"] = {
                        "test": [run["test"] for run in made],
                        "seconds": [run["seconds"] for run in made],
                        "block_weights": made[0]["block_weights"],
                    }
                shown = ", ".join(
                    f"d {d} {spread(cells[f'{mixer}|{d}|{n}']['test'], digits=1)}"
                    for d in self.dimensions
                )
                say(f"{self.name}, n {n}, {mixer}: {shown} % (chance {100 * data.chance:.1f})")
            cells[f"chance|{n}"] = data.chance
        return {
            "dimensions": self.dimensions,
            "lengths": self.lengths,
            "mixers": self.mixers,
            "rates": rates,
            "cells": cells,
        }

    def _run(
        self, data: _Data, mixer: str, d: int, rate: float, seed: int, progress: bool
    ) -> dict[str, Any]:
        key = f"{self.name}|{mixer}|{d}|{data.n}|{rate:g}|{seed}"
        if key not in self.runs.done:
            set_seed(seed)
            model = Reader(mixer, data.task, d, data.n)
            start = time.perf_counter()
            with Progress(console=Console(stderr=True), disable=not progress) as bar:
                shown = bar.add_task(f"{self.name}, {mixer}, d {d}, n {data.n}", total=self.steps)
                train(
                    model,
                    data.batches(seed),
                    self.steps,
                    rate,
                    moved=lambda: bar.advance(shown),
                )
            run = {
                "held": accuracy(model, data.held, data.batch_size),
                "test": accuracy(model, data.test, data.batch_size),
                "seconds": time.perf_counter() - start,
                "block_weights": model.block_weights,
            }
            self.runs.add(key, run)
        return self.runs.done[key]


def task_tables(results: dict[str, Any]) -> dict[str, str]:
    """table.md: accuracies; needed.md: the least d that gets nine tenths of the way."""
    used = {mixer for task in results["tasks"].values() for mixer in task["mixers"]}
    mixers = [mixer for mixer in MIXERS if mixer in used]
    rows, needed = [], []
    for name, task in results["tasks"].items():
        cells = task["cells"]
        for n in task["lengths"]:
            chance = cells[f"chance|{n}"]
            for d in task["dimensions"]:
                rows.append([name, f"{n:,}", str(d), f"{100 * chance:.1f}"])
                rows[-1] += [_accuracy(cells.get(f"{mixer}|{d}|{n}")) for mixer in mixers]
            if isinstance(TASKS[name], MadeUp):
                enough = chance + REACHED * (1 - chance)
                row = [name, f"{n:,}", f"{100 * enough:.0f}"]
                for mixer in task["mixers"]:
                    at = {d: np.mean(cells[f"{mixer}|{d}|{n}"]["test"]) for d in task["dimensions"]}
                    row.append(_least(d for d in task["dimensions"] if at[d] >= enough))
                needed.append(row)
    tables = {"table.md": markdown_table(["task", "n", "d", "chance", *mixers], rows)}
    if needed:
        made_up = [mixer for mixer in mixers if mixer != "none"]
        tables["needed.md"] = markdown_table(["task", "n", "accuracy, %", *made_up], needed)
    return tables


def _accuracy(cell: dict[str, Any] | None) -> str:
    return "" if cell is None else spread(cell["test"], digits=1)


def _least(dimensions: Iterable[int]) -> str:
    return next((str(d) for d in sorted(dimensions)), "–")
