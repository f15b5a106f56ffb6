"""Page and figures of the results of `bench_ops`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from research.analysis.figures import draw_bars, draw_scaling

__all__ = ["draw_forms", "draw_lengths", "ops_table", "write_ops_page"]


def write_ops_page(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json, README.md, table.md and figures to `folder`."""
    write_results(folder, results)
    draw_lengths(results, folder)
    draw_forms(results, folder)
    for name, text in (("README.md", _page(results)), ("table.md", ops_table(results))):
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")


def draw_lengths(results: Mapping[str, Any], folder: Path) -> None:
    """Draw scaling.png to `folder`."""
    scaling = results["scaling"]
    lines = {
        name: ([n for n, _ in times], [t for _, t in times])
        for name, times in scaling["seconds"].items()
    }
    slopes = {name: _slope(scaling, name) for name in lines}
    draw_scaling(lines, slopes, folder / "scaling.png")


def draw_forms(results: Mapping[str, Any], folder: Path) -> None:
    """Draw forms.png to `folder`."""
    bars = {
        f"{name}, {way}": times[way] / times["copy"]
        for name, times in results["forms"].items()
        for way in ("forward", "forward and backward")
    }
    draw_bars(bars, "time in copies of the same bytes", "one copy", folder / "forms.png")


def _page(results: Mapping[str, Any]) -> str:
    machine, scaling = results["environment"], results["scaling"]
    batch, n, d = results["shape"]
    bags, length, vocab_size, width = results["tokens"]["shape"]
    slopes = [
        [
            name,
            f"{scaling['slopes'][name]:.3f}",
            _slope(scaling, name) if name in scaling["slopes_at_large_n"] else "",
            f"{times[0][0]:,} to {times[-1][0]:,}",
            *(f"{1000 * t:.3f}" for t in (times[0][1], times[-1][1])),
        ]
        for name, times in scaling["seconds"].items()
    ]
    longest = scaling["seconds"]["copy"][-1][0]
    memory = (
        "The allocator retains freed memory, as between the steps of a training"
        if results["retained_memory"]
        else "Every output is in fresh memory"
    )
    fresh = results["fresh"]
    return f"""# The ops beside a copy, and beside their baselines

Written by `python -m research bench ops` from results.json beside it; do not edit.

{machine["processor"]}, {machine["threads"]} threads, torch {machine["torch"]}, numba
{machine["numba"]}, hyperagg {machine["hyperagg"]}. Medians; all calls of a table are timed
interleaved in one process, after their sums were compared with the reference.

{memory}, except in the last table.

## Causal sums, {batch} × {n} × {d} float32

{ops_table(results)}
Copies: of the bytes of the input into allocated memory. A forward pass reads and writes as much as
one copy; a backward pass reads two such tensors and writes one. Attention: heads × their dimension.
×: multiples of the time of aggregate.

## Every form, in copies of the same bytes

{markdown_table(["form", "forward", "forward and backward"], _forms(results))}
![Time of every form in copies of the same bytes, with a line at one copy](forms.png)

## Time by length, batch 1, d {scaling["d"]}

{markdown_table(["form", "slope", "slope at large n", "n", "ms, first n", "ms, last n"], slopes)}
The slope is that of log time on log n: 1 for linear and 2 for quadratic time. Large n: from
{longest // 64:,} on. Below that the fixed cost of a call, a tenth of a millisecond, hides the sums.
Not interleaved, so that short texts stay in the caches.

![Seconds of sums, a copy and attention by length](scaling.png)

## Pooled from token ids, {bags} × {length} ids, {vocab_size:,} rows of {width}

{markdown_table(["op", "forward, ms", "×", "forward and backward, ms", "×"], _tokens(results))}
×: multiples of the time of `nn.EmbeddingBag`, which has no positions.

{_associative(results)}## Fresh memory

{markdown_table(["causal", "ms", "copies"], _against_copy(fresh))}
An output in pages that the system has to clear first costs several copies, whatever computes it.
glibc retains the pages of freed tensors with `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647`
in the environment of a process.
"""


def _associative(results: Mapping[str, Any]) -> str:
    """The section of associative sums; results of earlier versions have none."""
    if "associative" not in results:
        return ""
    measured = results["associative"]
    batch, n, heads, keys = measured["shape"]
    columns = ["form"]
    for way in ("forward", "forward and backward"):
        columns += [f"{way}, µs per token", "plain PyTorch", "×"]
    rows = []
    for name, seconds in measured["seconds"].items():
        row = [name]
        for way in ("forward", "forward and backward"):
            times = (seconds[f"{impl}, {way}"] for impl in ("cpu", "plain"))
            own, plain = (1e6 * time / (batch * n) for time in times)
            row += [f"{own:.2f}", f"{plain:.2f}", f"{plain / own:.1f}"]
        rows.append(row)
    return f"""## Associative sums, {batch} × {n} tokens, {heads} heads of {keys} keys and values

{markdown_table(columns, rows)}
×: the time of plain PyTorch, in chunks by matrix products, in multiples of the time of the kernel.

"""


def ops_table(results: Mapping[str, Any]) -> str:
    """Format the causal sums and their baselines."""
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
    columns = ["causal sums", "forward, ms", "copies", "×"]
    columns += ["forward and backward, ms", "copies", "×"]
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
    """The slope at large n, if it was measured that far."""
    return f"{scaling['slopes_at_large_n'].get(name, scaling['slopes'][name]):.2f}"
