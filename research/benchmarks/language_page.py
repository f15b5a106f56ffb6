"""The page and the picture of what `bench_language` measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from research.analysis.figures import COLOURS
from research.benchmarks.language import ATTENTION, FEED_FORWARD, GATE, IN_PLACE

__all__ = ["decoding_table", "training_table", "write_language_page"]

LINES = {
    GATE: {"color": COLOURS["aggregation"]},
    ATTENTION: {"color": COLOURS["attention"]},
    IN_PLACE: {"color": COLOURS["attention"], "linestyle": "--"},
    FEED_FORWARD: {"color": COLOURS["untrained"]},
}


def write_language_page(folder: Path, results: Mapping[str, Any]) -> None:
    """results.json, README.md, a file a table and the picture in `folder`."""
    write_results(folder, results)
    _draw(results, folder / "speed.png")
    for name, text in (
        ("README.md", _page(results)),
        ("training.md", training_table(results)),
        ("mixers.md", _mixers_table(results)),
        ("decoding.md", decoding_table(results)),
    ):
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")


def training_table(results: Mapping[str, Any]) -> str:
    """Tokens a second of every model against length, and the slopes."""
    return _length_table(results, "training", [GATE, ATTENTION, FEED_FORWARD])


def _mixers_table(results: Mapping[str, Any]) -> str:
    return _length_table(results, "mixers", [GATE, ATTENTION])


def _length_table(results: Mapping[str, Any], part: str, names: list[str]) -> str:
    tokens, rows = results["sizes"]["tokens"], []
    for run in results[part]:
        seconds = {name: dict(run["seconds"][name]) for name in names}
        for n in seconds[GATE]:
            speeds = [f"{tokens / seconds[name][n]:,.0f}" for name in names]
            ratios = [f"{seconds[name][n] / seconds[GATE][n]:.2f}" for name in names[1:]]
            rows.append([f"{n:,}{_on(results, run)}", *speeds, *ratios])
        first, last = results["sizes"]["lengths"][-2:]
        for told, key in (
            ("slope", "slopes"),
            (f"slope, {first:,} to {last:,}", "slopes_of_long"),
        ):
            slopes = [f"{run[key][name]:.2f}" for name in names]
            rows.append([told + _on(results, run), *slopes, *[""] * len(names[1:])])
    columns = ["tokens a row", *(f"{name}, tokens/s" for name in names)]
    return markdown_table([*columns, *(f"× {name}" for name in names[1:])], rows)


def decoding_table(results: Mapping[str, Any]) -> str:
    """Milliseconds a token and bytes of state against context."""
    rows = []
    for run in results["decoding"]:
        ms, state = run["milliseconds"], run["bytes"]
        best = min(ms[ATTENTION], ms[IN_PLACE])
        rows.append(
            [
                f"{run['context']:,}{_on(results, run)}",
                *(f"{ms[name]:.2f}" for name in (GATE, ATTENTION, IN_PLACE, FEED_FORWARD)),
                f"{best / ms[GATE]:.1f}",
                *(f"{state[name]:,}" for name in (GATE, ATTENTION)),
                f"{1e6 * run['reading_seconds'] / run['context']:.1f}",
            ]
        )
    columns = ["context", *(f"{name}, ms" for name in (GATE, ATTENTION, "in place"))]
    columns += [f"{FEED_FORWARD}, ms", "×", f"state of {GATE}, bytes", f"of {ATTENTION}, bytes"]
    return markdown_table([*columns, f"{GATE} reads, µs a token"], rows)


def _on(results: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Which threads a row is of, where there are several."""
    if len(results["threads"]) == 1:
        return ""
    return ", 1 thread" if run["threads"] == 1 else f", {run['threads']} threads"


def _page(results: Mapping[str, Any]) -> str:
    machine, sizes = results["environment"], results["sizes"]
    threads = " and then ".join(str(number) for number in results["threads"])
    models = [
        [name, *(f"{model[key]:,}" for key in ("parameters", "of_a_mixer", "feed_forward_width"))]
        for name, model in results["models"].items()
    ]
    rounds = "a round" if sizes["rounds"] == 1 else f"{sizes['rounds']} rounds"
    load = (
        ""
        if machine["load"] is None
        else f" When it began, other work loaded the cores by {machine['load']:.1f}."
    )
    return f"""# Language models: training against length, decoding against context

Written by `python -m research bench lm` from results.json beside it; do not edit.

{machine["processor"]}, {machine["cores"]} cores, threads: {threads}; torch {machine["torch"]},
transformers {machine["transformers"]}, numba {machine["numba"]}, hyperagg {machine["hyperagg"]}.
Medians, float32, weights and tokens at random.{load}

{markdown_table(["model", "parameters", "of a layer's mixer", "feed-forward width"], models)}
d {sizes["d"]}, {sizes["layers"]} layers, {sizes["vocabulary"]:,} kinds of tokens. A mixer with
fewer weights has wider feed-forward layers beside it. Attention: rotary, {sizes["heads"]} heads,
`{results["attention"]}` of transformers, which in training is
`scaled_dot_product_attention(is_causal=True)`. Before anything was timed, each model's logits,
token by token after a part of a text, were compared with those of the whole text: within 1e-4 of
the largest.

![Tokens a second against length, and milliseconds a token against context](speed.png)

## Training, {sizes["tokens"]:,} tokens a step

{training_table(results)}
A step is forward, backward and AdamW (fused). It always has the same number of tokens: the batch
falls as the rows grow. All models take turns at every length, for {rounds} or more
after a call each to warm up. ×: {GATE}'s tokens a second over the other's.

The slope is of log seconds a step on log tokens a row. With as many tokens in every step it is 0
where the time of a text is linear in its length, and 1 where it is quadratic.

## A layer's mixer alone, forward and backward

{_mixers_table(results)}
The same tokens a step, without the feed-forward layers and the softmax that hide the difference in
a whole model. Here the weights are not equal: see the first table.

## Decoding, one text, greedy

{decoding_table(results)}
The median of {sizes["steps"]} tokens after each context, each model by itself. In place: attention
with a cache that was made long enough beforehand (`StaticCache`); the usual one (`DynamicCache`) is
copied to make room for every token. ×: the faster of attention's two, in times of {GATE}'s.
Bytes: of the memory that the cache holds before decoding begins.

The last column is what reading the context costs {GATE}, in chunks of {sizes["chunk"]:,} tokens.
Attention did not read it, which takes it a time quadratic in the context: its cache was filled
with random keys and values of the right shape, on whose values a step's time does not depend. The
feed-forward layers keep nothing of a context.
"""


def _draw(results: Mapping[str, Any], path: Path) -> None:
    """Three panels on log axes, of the last number of threads."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    tokens = results["sizes"]["tokens"]
    for axis, part, title in (
        (axes[0], "training", "training"),
        (axes[1], "mixers", "a mixer alone, both ways"),
    ):
        for name, times in results[part][-1]["seconds"].items():
            lengths = [n for n, _ in times]
            axis.plot(
                lengths, [tokens / t for _, t in times], marker=".", label=name, **LINES[name]
            )
        axis.set(title=title, xlabel="tokens a row", ylabel="tokens a second")
    runs = [run for run in results["decoding"] if run["threads"] == results["threads"][-1]]
    for name, style in LINES.items():
        milliseconds = [run["milliseconds"][name] for run in runs]
        axes[2].plot(
            [run["context"] for run in runs], milliseconds, marker=".", label=name, **style
        )
    axes[2].set(title="decoding", xlabel="tokens of context", ylabel="milliseconds a token")
    contexts = [run["context"] for run in runs]
    for axis, ticks in zip(axes, (*[results["sizes"]["lengths"]] * 2, contexts)):
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=130, metadata={"Software": None})
    plt.close(figure)
