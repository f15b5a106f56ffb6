"""Which d a task requires of each mixer at which n: sums, attention, and no mixer.

All mixers have the same blocks with equal numbers of weights, and the same steps on the same rows.
Each mixer has its own learning rate per task, the better of LEARNING_RATES on held-out rows at the
largest d and the smallest n. Nothing is selected on test rows.
"""

from __future__ import annotations

import logging
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
from hyperagg._common.report import markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from research.studies.sequence_reader import MIXERS, SequenceReader, accuracy, train
from research.studies.sequence_tasks import TASKS, Rows, SyntheticTask

__all__ = ["LEARNING_RATES", "TASKS", "run_tasks", "task_tables"]

logger = logging.getLogger(__name__)

LEARNING_RATES = (2e-3, 8e-3)
# A task counts as solved at this fraction of the way from the most frequent answer to no error.
SOLVED = 0.9
# How long a training takes is the first multiple of _EVERY steps with this accuracy on validation
# rows, of which _PROBE are asked for.
LEARNED, _EVERY, _PROBE = 0.99, 50, 128
_VALIDATION, _TEST = 512, 1024


@dataclass
class _Data:
    """Training, validation and test rows of a task at one n."""

    name: str
    n: int
    validation: Rows = field(init=False)
    test: Rows = field(init=False)
    chance: float = field(init=False)

    def __post_init__(self) -> None:
        self.task = TASKS[self.name]
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), self.n])
        if isinstance(self.task, SyntheticTask):
            self.validation = self.task.rows(self.n, _VALIDATION, rng)
            self.test = self.task.test_rows(self.n, _TEST, rng)
            labels = self.validation.labels
        else:
            rows, test = self.task.load(self.n)
            order, test_order = rng.permutation(len(rows.labels)), rng.permutation(len(test.labels))
            self.validation = rows.take(order[:_VALIDATION])
            self.train = rows.take(order[_VALIDATION:])
            self.test = test.take(test_order[:_TEST])
            labels = self.train.labels
        answer = Counter(labels.ravel().tolist()).most_common(1)[0][0]
        self.chance = float((self.test.labels == answer).mean())

    @property
    def batch_size(self) -> int:
        """Rows per step: about equally many tokens at every n, twice as many for real tasks."""
        tokens = 1024 if isinstance(self.task, SyntheticTask) else 2048
        return max(4, min(32, tokens // self.validation.inputs.shape[1]))

    def batches(self, seed: int) -> Callable[[int], Rows]:
        rng = np.random.default_rng(seed)
        if isinstance(self.task, SyntheticTask):
            task = self.task
            return lambda step: task.rows(self.n, self.batch_size, rng)
        return lambda step: self.train.take(
            rng.integers(0, len(self.train.labels), self.batch_size)
        )


def run_tasks(
    out: Path,
    *,
    tasks: Sequence[str] = tuple(TASKS),
    mixers: Sequence[str] = tuple(MIXERS),
    dimensions: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    steps: int = 500,
    seeds: int = 1,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Train every mixer on every task, d and n; write results.json and two tables.

    Args:
        out: output folder.
        tasks: names of TASKS.
        mixers: names of MIXERS.
        dimensions, lengths: values of d and n (default: those of each task).
        steps: number of training steps.
        seeds: number of seeds for weights and rows. Learning rates are selected with the first.
        resume: continue after the last run of an earlier call, also with other tasks or sizes.
        progress: show a progress bar.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: an unknown task or mixer, sizes that are too small, or `out` holds runs with
            another number of steps.
    """
    for name in tasks:
        if name not in TASKS:
            raise ValueError(f"task={name!r}: expected one of {', '.join(TASKS)}")
    for name in mixers:
        if name not in MIXERS:
            raise ValueError(f"mixer={name!r}: expected one of {', '.join(MIXERS)}")
    if min(lengths or [32]) < 32:
        raise ValueError(f"lengths={lengths}: expected integers >= 32")
    for d in dimensions or ():
        if d != 8 and (d < 16 or d % 16):
            raise ValueError(f"dimensions={d}: expected 8 or a multiple of 16 (heads of attention)")
    runs = Runs(out / "runs.json", f"tasks, {steps} steps", resume)
    measured: dict[str, Any] = {}
    for name in tasks:
        sizes = sorted(dimensions or TASKS[name].dimensions)
        all_n = sorted(lengths or TASKS[name].lengths)
        study = _Study(name, mixers, sizes, all_n, steps, seeds, runs)
        measured[name] = study.measure(progress)
    results = {
        "steps": steps,
        "seeds": seeds,
        "learning_rates": list(LEARNING_RATES),
        "environment": runs.environment(),
        "tasks": measured,
    }
    write_results(out, results)
    for file, table in task_tables(results).items():
        with atomic_write(out / file) as draft:
            draft.write_text(table, "utf-8")
    return results


class _Study:
    """The runs of one task."""

    def __init__(
        self,
        name: str,
        mixers: Sequence[str],
        dimensions: list[int],
        lengths: list[int],
        steps: int,
        seeds: int,
        runs: Runs,
    ) -> None:
        self.name, self.dimensions, self.lengths = name, dimensions, lengths
        self.steps, self.seeds, self.runs = steps, seeds, runs
        # A task that asks at the last positions cannot be solved without a mixer.
        self.mixers = [
            m for m in mixers if m != "identity" or not isinstance(TASKS[name], SyntheticTask)
        ]

    def measure(self, progress: bool) -> dict[str, Any]:
        learning_rates: dict[str, float] = {}
        cells: dict[str, Any] = {}
        for n in self.lengths:
            data = _Data(self.name, n)
            for mixer in self.mixers:
                if mixer not in learning_rates:
                    d = self.dimensions[-1]
                    tried = {r: self._run(data, mixer, d, r, 0, progress) for r in LEARNING_RATES}
                    learning_rates[mixer] = max(tried, key=lambda r: tried[r]["validation"])
                for d in self.dimensions:
                    runs = [
                        self._run(data, mixer, d, learning_rates[mixer], seed, progress)
                        for seed in range(self.seeds)
                    ]
                    cells[f"{mixer}|{d}|{n}"] = {
                        "test": [run["test"] for run in runs],
                        "seconds": [run["seconds"] for run in runs],
                        "block_weights": runs[0]["block_weights"],
                        "learned_at": [run["learned_at"] for run in runs if "learned_at" in run],
                    }
                accuracies = ", ".join(
                    f"d {d} {spread(cells[f'{mixer}|{d}|{n}']['test'], digits=1)}"
                    for d in self.dimensions
                )
                chance = 100 * data.chance
                message = "%s, n %d, %s: %s %% (chance %.1f)"
                logger.info(message, self.name, n, mixer, accuracies, chance)
            cells[f"chance|{n}"] = data.chance
        return {
            "dimensions": self.dimensions,
            "lengths": self.lengths,
            "mixers": self.mixers,
            "learning_rates": learning_rates,
            "cells": cells,
        }

    def _run(
        self, data: _Data, mixer: str, d: int, learning_rate: float, seed: int, progress: bool
    ) -> dict[str, Any]:
        key = f"{self.name}|{mixer}|{d}|{data.n}|{learning_rate:g}|{seed}"
        if key not in self.runs.done:
            set_seed(seed)
            model = SequenceReader(mixer, data.task, d, data.n)
            start = time.perf_counter()
            probe = _Probe(model, data)
            with Progress(console=Console(stderr=True), disable=not progress) as bar:
                row = bar.add_task(f"{self.name}, {mixer}, d {d}, n {data.n}", total=self.steps)

                def on_step() -> None:
                    probe()
                    bar.advance(row)

                train(model, data.batches(seed), self.steps, learning_rate, on_step=on_step)
            run = {
                "validation": accuracy(model, data.validation, data.batch_size),
                "test": accuracy(model, data.test, data.batch_size),
                "seconds": time.perf_counter() - start,
                "block_weights": model.block_weights,
                "learned_at": probe.learned_at,
            }
            self.runs.add(key, run)
        return self.runs.done[key]


class _Probe:
    """Watch a training for the step at which its task is learned."""

    def __init__(self, model: SequenceReader, data: _Data) -> None:
        self.model, self.batch_size = model, data.batch_size
        self.rows: Rows | None = None
        if isinstance(data.task, SyntheticTask):
            count = min(_PROBE, len(data.validation.labels))
            self.rows = data.validation.take(np.arange(count))
        self.step = 0
        self.learned_at: int | None = None

    def __call__(self) -> None:
        self.step += 1
        if self.rows is not None and self.learned_at is None and self.step % _EVERY == 0:
            if accuracy(self.model, self.rows, self.batch_size) >= LEARNED:
                self.learned_at = self.step
            self.model.train()


def task_tables(results: dict[str, Any]) -> dict[str, str]:
    """Format table.md (accuracies), needed.md (the smallest d that solves a task) and learned.md.

    learned.md has the steps after which validation rows had an accuracy of LEARNED.
    """
    used = {mixer for task in results["tasks"].values() for mixer in task["mixers"]}
    mixers = [mixer for mixer in MIXERS if mixer in used]
    mixing = [mixer for mixer in mixers if mixer != "identity"]
    rows, needed, learned = [], [], []
    for name, task in results["tasks"].items():
        cells = task["cells"]
        for n in task["lengths"]:
            chance = cells[f"chance|{n}"]
            for d in task["dimensions"]:
                rows.append([name, f"{n:,}", str(d), f"{100 * chance:.1f}"])
                rows[-1] += [_accuracy(cells.get(f"{mixer}|{d}|{n}")) for mixer in mixers]
                steps = [_steps(cells.get(f"{mixer}|{d}|{n}")) for mixer in mixing]
                if any(steps):
                    learned.append([name, f"{n:,}", str(d), *steps])
            if isinstance(TASKS[name], SyntheticTask):
                enough = chance + SOLVED * (1 - chance)
                row = [name, f"{n:,}", f"{100 * enough:.0f}"]
                for mixer in task["mixers"]:
                    at = {d: np.mean(cells[f"{mixer}|{d}|{n}"]["test"]) for d in task["dimensions"]}
                    row.append(_smallest(d for d in task["dimensions"] if at[d] >= enough))
                needed.append(row)
    tables = {"table.md": markdown_table(["task", "n", "d", "chance", *mixers], rows)}
    if needed:
        tables["needed.md"] = markdown_table(["task", "n", "accuracy %", *mixing], needed)
    if learned:
        tables["learned.md"] = markdown_table(["task", "n", "d", *mixing], learned)
    return tables


def _accuracy(cell: dict[str, Any] | None) -> str:
    return "" if cell is None else spread(cell["test"], digits=1)


def _steps(cell: dict[str, Any] | None) -> str:
    """The mean over the seeds, a dash if one has not learned the task; empty if it is unknown."""
    steps = (cell or {}).get("learned_at")
    if not steps:
        return ""
    return "–" if None in steps else f"{np.mean(steps):,.0f}"


def _smallest(dimensions: Iterable[int]) -> str:
    return next((str(d) for d in sorted(dimensions)), "–")
