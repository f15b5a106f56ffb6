"""How many tokens a sum of d numbers holds: measured over d and n, and predicted by theory.

Every point of the grid has its own seed, derived from the seed of the study, the kind, d, n and V,
so the order of the points and interruptions do not change the results.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from hyperagg._common.runs import Runs
from research.analysis.capacity import KINDS, VOCABULARY, accuracy, frontier, train
from research.analysis.capacity_theory import predicted
from research.analysis.figures import draw_capacity

__all__ = [
    "DIMENSIONS",
    "LENGTHS",
    "LEVELS",
    "TRAINED",
    "draw_retrieval",
    "retrieval",
    "retrieval_tables",
]

logger = logging.getLogger(__name__)

DIMENSIONS = tuple(2**k for k in range(5, 13))
LENGTHS = tuple(2**k for k in range(2, 13))
# Training takes half a minute per point.
TRAINED_DIMENSIONS, TRAINED_LENGTHS = (32, 64, 128), (4, 8, 16, 32, 64)
TRAINED, PANEL = "trained", "trained; predicted: random signs"
# The number of tokens that a memory holds depends on the size of the vocabulary.
VOCABULARIES, VOCABULARY_DIMENSION = (16, 128, 1024, 8192), 512
LEVELS = (0.99, 0.5)


@dataclass(frozen=True)
class Point:
    """A point of the grid."""

    kind: str
    d: int
    n: int
    vocabulary: int

    @property
    def key(self) -> str:
        return f"{self.kind}|{self.d}|{self.n}|{self.vocabulary}"

    def seed(self, root: int) -> int:
        words = [root, zlib.crc32(self.kind.encode()), self.d, self.n, self.vocabulary]
        return int(np.random.SeedSequence(words).generate_state(1)[0])


def retrieval(
    out: Path,
    *,
    dimensions: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    retrievals: int = 2048,
    seed: int = 0,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure and predict every point; write results.json, three tables and capacity.png.

    Args:
        out: output folder.
        dimensions, lengths: the grid (default: DIMENSIONS and LENGTHS). Trained memories use those
            values that are small enough.
        retrievals: number of positions to retrieve at each point.
        seed: root of the seeds of all points.
        resume: continue after the last point of an earlier call.
        progress: show a progress bar.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: a d below 2 or odd, an n below 4, or `out` holds runs with other arguments.
    """
    dimensions, lengths = sorted(dimensions or DIMENSIONS), sorted(lengths or LENGTHS)
    for name, values, least in (("dimensions", dimensions, 2), ("lengths", lengths, 4)):
        if values[0] < least or (name == "dimensions" and any(d % 2 for d in values)):
            even = "even " if name == "dimensions" else ""
            raise ValueError(f"{name}={values}: expected {even}integers >= {least}")
    what = f"retrieval, d {dimensions}, n {lengths}, {retrievals} retrievals, seed {seed}"
    runs = Runs(out / "runs.json", what, resume)
    points = list(_points(dimensions, lengths))
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("points", total=len(points))
        for point in points:
            bar.update(task, description=f"{point.kind}, d {point.d}, n {point.n}")
            if point.key not in runs.done:
                runs.add(point.key, _measured(point, retrievals, seed))
            bar.advance(task)
    done = runs.done
    results = {
        "vocabulary": VOCABULARY,
        "retrievals": retrievals,
        "seed": seed,
        "environment": runs.environment(),
        "seconds": sum(run["seconds"] for run in done.values()),
        "kinds": {
            kind: _grid(done, retrievals, kind, dimensions, lengths) for kind in (*KINDS, TRAINED)
        },
        "vocabularies": {
            v: _grid(done, retrievals, "random signs", [VOCABULARY_DIMENSION], lengths, v)
            for v in VOCABULARIES
        },
    }
    write_results(out, results)
    for name, table in retrieval_tables(results).items():
        with atomic_write(out / name) as draft:
            draft.write_text(table, "utf-8")
    draw_retrieval(results, out)
    for kind, grid in results["kinds"].items():
        difference = grid["difference"]
        logger.info("%s: measured and predicted accuracy differ by %.3f", kind, difference)
    return results


def draw_retrieval(results: Mapping[str, Any], folder: Path) -> None:
    """Draw capacity.png to `folder`."""
    panels = {kind if kind != TRAINED else PANEL: grid for kind, grid in results["kinds"].items()}
    draw_capacity(panels, folder / "capacity.png")


def _points(dimensions: Sequence[int], lengths: Sequence[int]) -> Iterator[Point]:
    for kind in KINDS:
        for d in dimensions:
            yield from (Point(kind, d, n, VOCABULARY) for n in lengths)
    for v in VOCABULARIES:
        if v != VOCABULARY or VOCABULARY_DIMENSION not in dimensions:
            yield from (Point("random signs", VOCABULARY_DIMENSION, n, v) for n in lengths)
    for d in set(TRAINED_DIMENSIONS) & set(dimensions):
        for n in set(TRAINED_LENGTHS) & set(lengths):
            yield Point(TRAINED, d, n, VOCABULARY)


def _measured(point: Point, retrievals: int, root: int) -> dict[str, float]:
    start, seed = time.perf_counter(), point.seed(root)
    kind, d, n, v = point.kind, point.d, point.n, point.vocabulary
    if kind == TRAINED:
        memory = train(d, n, seed, vocabulary=v)
        measured = accuracy(lambda: memory, retrievals, seed + 1)
        # There is no theory of trained memories; the prediction for random signs is the reference.
        expected = predicted("random signs", d, n, v)
    else:
        measured = accuracy(lambda: KINDS[kind].draw(d, n, v), retrievals, seed)
        expected = predicted(kind, d, n, v)
    seconds = time.perf_counter() - start
    return {"measured": measured, "predicted": expected, "seconds": seconds}


def _grid(
    done: dict[str, dict[str, Any]],
    retrievals: int,
    kind: str,
    dimensions: Sequence[int],
    lengths: Sequence[int],
    vocabulary: int = VOCABULARY,
) -> dict[str, Any]:
    """Collect the (D, N) accuracies of a kind, its frontiers, and how well the theory agrees."""
    if kind == TRAINED:
        dimensions = [d for d in dimensions if d in TRAINED_DIMENSIONS]
        lengths = [n for n in lengths if n in TRAINED_LENGTHS]
    grid: dict[str, Any] = {"dimensions": list(dimensions), "lengths": list(lengths)}
    for name in ("measured", "predicted"):
        grid[name] = [
            [done[Point(kind, d, n, vocabulary).key][name] for n in lengths] for d in dimensions
        ]
    grid["frontiers"] = {
        str(level): {
            name: [frontier(lengths, row, level, retrievals) for row in grid[name]]
            for name in ("measured", "predicted")
        }
        for level in LEVELS
    }
    differences = np.abs(np.array(grid["measured"]) - np.array(grid["predicted"]))
    grid["difference"] = float(differences.mean()) if differences.size else 0.0
    grid["agreement"] = {level: _agreement(**both) for level, both in grid["frontiers"].items()}
    return grid


def _agreement(
    measured: Sequence[float | None], predicted: Sequence[float | None]
) -> dict[str, float | int | None]:
    """Pearson correlation of the logarithms and mean ratio, where both have a frontier."""
    both = np.array([pair for pair in zip(measured, predicted) if None not in pair], dtype=float)
    if not len(both):
        return {"points": 0, "correlation": None, "ratio": None}
    logs = np.log(both).T
    return {
        "points": len(both),
        "correlation": float(np.corrcoef(logs)[0, 1]) if len(both) > 2 else None,
        "ratio": float(np.exp((logs[0] - logs[1]).mean())),
    }


def retrieval_tables(results: dict[str, Any]) -> dict[str, str]:
    """Format table.md (frontiers), agreement.md (with the theory) and vocabulary.md (over V)."""
    return {
        "table.md": _frontier_table(results["kinds"]),
        "agreement.md": _agreement_table(results["kinds"]),
        "vocabulary.md": _vocabulary_table(results["vocabularies"]),
    }


def _frontier_table(kinds: dict[str, Any]) -> str:
    columns = [
        (kind, level)
        for kind, grid in kinds.items()
        for level, both in grid["frontiers"].items()
        if any(n is not None for n in both["measured"])
    ]
    dimensions = max((grid["dimensions"] for grid in kinds.values()), key=len)
    rows = []
    for d in dimensions:
        row = [f"{d:,}"]
        for kind, level in columns:
            grid = kinds[kind]
            if d not in grid["dimensions"]:
                row.append("")
                continue
            both, i = grid["frontiers"][level], grid["dimensions"].index(d)
            row.append(f"{_tokens(both['measured'][i])} / {_tokens(both['predicted'][i])}")
        rows.append(row)
    return markdown_table(["d", *(f"{kind}, {float(at):.0%}" for kind, at in columns)], rows)


def _agreement_table(kinds: dict[str, Any]) -> str:
    columns = ["kind", "mean difference of accuracy"]
    for level in LEVELS:
        columns += [f"{level:.0%}: frontiers", "correlation", "measured / predicted"]
    rows = []
    for kind, grid in kinds.items():
        row = [kind, f"{grid['difference']:.3f}"]
        for agreement in grid["agreement"].values():
            correlation, ratio = agreement["correlation"], agreement["ratio"]
            row += [
                str(agreement["points"]),
                "" if correlation is None else f"{correlation:.4f}",
                "" if ratio is None else f"{ratio:.2f}",
            ]
        rows.append(row)
    return markdown_table(columns, rows)


def _vocabulary_table(vocabularies: dict[int, Any]) -> str:
    columns = ["V"]
    for level in LEVELS:
        columns += [f"n at {level:.0%}", "predicted", "d / (n ln V)"]
    rows = []
    for v, grid in vocabularies.items():
        row, d = [f"{int(v):,}"], grid["dimensions"][0]
        for both in grid["frontiers"].values():
            n = both["measured"][0]
            cost = "" if n is None else f"{d / (n * np.log(int(v))):.2f}"
            row += [_tokens(n), _tokens(both["predicted"][0]), cost]
        rows.append(row)
    return markdown_table(columns, rows)


def _tokens(n: float | None) -> str:
    return "–" if n is None else f"{n:.1f}" if n < 100 else f"{n:,.0f}"
