"""The page and the pictures of what `bench_ops` measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from research.analysis.figures import draw_bars, draw_scaling

__all__ = ["write_page"]


def write_page(folder: Path, results: Mapping[str, Any]) -> None:
    """results.json, README.md, table.md and the pictures in `folder`."""
    write_results(folder, results)
    scaling = results["scaling"]
    lines = {
        f"{name}: {_slope(scaling, name)}": (
            [n for n, _ in times],
            [t for _, t in times],
        )
        for name, times in scaling["seconds"].items()
    }
    draw_scaling(lines, folder / "scaling.png")
    bars = {
        f"{name}, {way}": times[way] / times["copy"]
        for name, times in results["forms"].items()
        for way in ("forward", "forward and backward")
    }
    draw_bars(bars, "copies of the same bytes", folder / "forms.png")
    for name, text in (("README.md", _page(results)), ("table.md", _rivals(results))):
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")


def _page(results: Mapping[str, Any]) -> str:
    machine, scaling = results["environment"], results["scaling"]
    batch, n, d = results["shape"]
    bags, length, vocabulary, width = results["tokens"]["shape"]
    slopes = [
        [
            name,
            f"{scaling['slopes'][name]:.3f}",
            _slope(scaling, name) if name in scaling["slopes_of_long"] else "",
            f"{times[0][0]:,} to {times[-1][0]:,}",
            *(f"{1000 * t:.3f}" for t in (times[0][1], times[-1][1])),
        ]
        for name, times in scaling["seconds"].items()
    ]
    longest = scaling["seconds"]["copy"][-1][0]
    kept = (
        "Memory that was freed is kept by the allocator, as over the steps of a training"
        if results["kept_memory"]
        else "Memory comes fresh from the system for every output"
    )
    fresh = results["fresh"]
    return f"""# The ops against a copy, and against their rivals

Written by `python -m research bench ops` from results.json beside it; do not edit.

{machine["processor"]}, {machine["threads"]} threads, torch {machine["torch"]}, numba
{machine["numba"]}, hyperagg {machine["hyperagg"]}. Medians; all calls of a table take turns in one
process, and their sums were compared with the reference first.

{kept}, except in the last table.

## Causal sums, {batch} × {n} × {d} float32

{_rivals(results)}
Copies: of the input's bytes into memory that exists. A forward pass reads and writes as much as
one copy; a backward pass reads two such tensors and writes one. Attention: heads × their dimension.
×: of aggregate's time.

## Every form, in copies of the same bytes

{markdown_table(["form", "forward", "forward and backward"], _forms(results))}
![Forms in copies of the same bytes](forms.png)

## Time against length, batch 1, d {scaling["d"]}

{markdown_table(["form", "slope", "of long n", "n", "ms, first n", "ms, last n"], slopes)}
The slope is of log time on log n: 1 for linear and 2 for quadratic time; of long n: from
{longest // 64:,}. Below that a call's own cost, a tenth of a millisecond, hides the sums. Timed
one by one, so that short texts stay in the caches.

![Seconds against length](scaling.png)

## Pooled straight from token ids, {bags} × {length} ids, {vocabulary:,} rows of {width}

{markdown_table(["", "forward, ms", "×", "forward and backward, ms", "×"], _tokens(results))}
×: of `nn.EmbeddingBag`, which has no positions.

## Memory fresh from the system

{markdown_table(["causal", "ms", "copies"], _against_copy(fresh))}
An output in pages that the system has yet to clear costs several copies, whatever computes it.
glibc keeps the pages of freed tensors with `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647`
in the environment of a process.
"""


def _rivals(results: Mapping[str, Any]) -> str:
    ways = results["causal"]
    rows = []
    for name in ways["forward"]:
        row = [name]
        for times in ways.values():
            if name in times:
                row += [
                    f"{1000 * times[name]:.2f}",
                    f"{times[name] / times['copy']:.2f}",
                    f"{times[name] / times['aggregate']:.1f}",
                ]
            else:
                row += ["", "", ""]
        rows.append(row)
    columns = ["causal sums", "forward, ms", "copies", "×", "and backward, ms", "copies", "×"]
    return markdown_table(columns, rows)


def _forms(results: Mapping[str, Any]) -> list[list[str]]:
    return [
        [name, *(f"{t[way] / t['copy']:.2f}" for way in ("forward", "forward and backward"))]
        for name, t in results["forms"].items()
    ]


def _tokens(results: Mapping[str, Any]) -> list[list[str]]:
    ways = [results["tokens"][way] for way in ("forward", "forward and backward")]
    return [
        [
            name,
            *(
                cell
                for times in ways
                for cell in (
                    f"{1000 * times[name]:.3f}",
                    f"{times[name] / times['nn.EmbeddingBag']:.2f}",
                )
            ),
        ]
        for name in ways[0]
    ]


def _against_copy(times: Mapping[str, float]) -> list[list[str]]:
    return [[name, f"{1000 * t:.2f}", f"{t / times['copy']:.2f}"] for name, t in times.items()]


def _slope(scaling: Mapping[str, Any], name: str) -> str:
    """At long n, where what is timed goes so far."""
    return f"{scaling['slopes_of_long'].get(name, scaling['slopes'][name]):.2f}"
