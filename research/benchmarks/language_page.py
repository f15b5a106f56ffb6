"""Page and figure of the results of `bench_language`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from hyperagg._common.atomic import atomic_write
from hyperagg._common.palette import series_styles
from hyperagg._common.report import markdown_table, write_results
from research.analysis.figures import save_figure
from research.benchmarks.language import (
    ASSOCIATIVE,
    ATTENTION,
    FEED_FORWARD,
    GATED,
    GATED_ASSOCIATIVE,
    MIXERS,
    STATIC_CACHE,
    SUMS,
)

__all__ = ["decoding_table", "draw_language", "training_table", "write_language_page"]


def write_language_page(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json, README.md, one file per table and speed.png to `folder`."""
    write_results(folder, results)
    draw_language(results, folder)
    for name, text in (
        ("README.md", _page(results)),
        ("training.md", training_table(results)),
        ("mixers.md", _mixers_table(results)),
        ("decoding.md", decoding_table(results)),
    ):
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")


def training_table(results: Mapping[str, Any]) -> str:
    """Format the tokens per second of every model by length, and the slopes."""
    return _length_table(results, "training", [*_sums(results), ATTENTION, FEED_FORWARD])


def _mixers_table(results: Mapping[str, Any]) -> str:
    return _length_table(results, "mixers", [*_sums(results), ATTENTION])


def _sums(results: Mapping[str, Any]) -> list[str]:
    """The models of sums; results of earlier versions have gated sums alone."""
    return [name for name in SUMS if name in results["models"]]


def _length_table(results: Mapping[str, Any], part: str, names: list[str]) -> str:
    tokens, rows = results["sizes"]["tokens"], []
    for run in results[part]:
        seconds = {name: dict(run["seconds"][name]) for name in names}
        for n in seconds[GATED]:
            speeds = [f"{tokens / seconds[name][n]:,.0f}" for name in names]
            ratios = [f"{seconds[name][n] / seconds[GATED][n]:.2f}" for name in names[1:]]
            rows.append([f"{n:,}{_threads_of(results, run)}", *speeds, *ratios])
        first, last = results["sizes"]["lengths"][-2:]
        for label, key in (
            ("slope", "slopes"),
            (f"slope, {first:,} to {last:,}", "slopes_at_large_n"),
        ):
            slopes = [f"{run[key][name]:.2f}" for name in names]
            rows.append([label + _threads_of(results, run), *slopes, *[""] * len(names[1:])])
    columns = ["tokens per row", *(f"{name}, tokens/s" for name in names)]
    return markdown_table([*columns, *(f"× {name}" for name in names[1:])], rows)


def decoding_table(results: Mapping[str, Any]) -> str:
    """Format ms per token and bytes of state by context."""
    sums, rows = _sums(results), []
    for run in results["decoding"]:
        ms, state = run["milliseconds"], run["bytes"]
        best = min(ms[ATTENTION], ms[STATIC_CACHE])
        prefill = run["prefill_seconds"]
        if not isinstance(prefill, Mapping):  # of gated sums, in results of earlier versions
            prefill = {GATED: prefill}
        rows.append(
            [
                f"{run['context']:,}{_threads_of(results, run)}",
                *(f"{ms[name]:.2f}" for name in (*sums, ATTENTION, STATIC_CACHE, FEED_FORWARD)),
                f"{best / ms[GATED]:.1f}",
                *(f"{state[name]:,}" for name in (*sums, ATTENTION)),
                *(f"{1e6 * prefill[name] / run['context']:.1f}" for name in sums),
            ]
        )
    columns = ["context", *(f"{name}, ms" for name in (*sums, ATTENTION, "static cache"))]
    columns += [f"{FEED_FORWARD}, ms", "×"]
    columns += [f"state of {name}, bytes" for name in (*sums, ATTENTION)]
    columns += [f"prefill of {name}, µs per token" for name in sums]
    return markdown_table(columns, rows)


def _threads_of(results: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """The number of threads of a row, if several were measured."""
    if len(results["threads"]) == 1:
        return ""
    return ", 1 thread" if run["threads"] == 1 else f", {run['threads']} threads"


def _page(results: Mapping[str, Any]) -> str:
    machine, sizes = results["environment"], results["sizes"]
    threads = " and then ".join(str(number) for number in results["threads"])
    keys = ("parameters", "mixer_parameters", "feed_forward_width")
    models = [
        [name, *(f"{model[key]:,}" for key in keys)] for name, model in results["models"].items()
    ]
    rounds = "one round" if sizes["rounds"] == 1 else f"{sizes['rounds']} rounds"
    load = (
        ""
        if machine["load"] is None
        else f" At the start, other work loaded the cores by {machine['load']:.1f}."
    )
    return f"""# Language models: training by length, decoding by context

Written by `python -m research bench lm` from results.json beside it; do not edit.

{machine["processor"]}, {machine["cores"]} cores, threads: {threads}; torch {machine["torch"]},
transformers {machine["transformers"]}, numba {machine["numba"]}, hyperagg {machine["hyperagg"]}.
Medians, float32, random weights and tokens.{load}

{markdown_table(["model", "parameters", "parameters per mixer", "feed-forward width"], models)}
d {sizes["d"]}, {sizes["layers"]} layers, vocabulary of {sizes["vocab_size"]:,}. A mixer with fewer
parameters has wider feed-forward layers beside it. Attention: rotary, {sizes["heads"]} heads,
`{results["attention"]}` of transformers, which in training is
`scaled_dot_product_attention(is_causal=True)`. Before the timing, the logits of each model, token
by token after the first part of a text, were compared with those of the whole text: they agree
within 1e-4 of the largest logit.

{_associative(results)}![Tokens per second by length, and ms per token by context](speed.png)

## Training, {sizes["tokens"]:,} tokens per step

{training_table(results)}
A step is forward, backward and AdamW (fused). It always has the same number of tokens: the batch
shrinks as the rows grow. The models are timed interleaved at every length, for at least {rounds}
after a warm-up. ×: tokens per second of {GATED} over those of the other model.

The slope is that of log seconds per step on log tokens per row. Since every step has the same
number of tokens, it is 0 if the time of a text is linear in its length, and 1 if it is quadratic.

## The mixer of one layer, forward and backward

{_mixers_table(results)}
The same tokens per step, without the feed-forward layers and the softmax, which hide the difference
in a whole model. The numbers of parameters differ here: see the first table.

## Decoding, one text, greedy

{decoding_table(results)}
The median of {sizes["steps"]} tokens after each context, one model after the other. Static cache:
attention with a cache that is allocated for the whole length beforehand (`StaticCache`); the
default one (`DynamicCache`) is copied to make room for every token. ×: the faster of the two, in
multiples of the time of {GATED}. Bytes: the memory that the cache holds before decoding begins.

Prefill: the time in which a model of sums reads the context, in chunks of {sizes["chunk"]:,}
tokens. Attention did not read it, since that takes quadratic time: its cache was filled with random
keys and values of the right shape, and the time of a step does not depend on their values. The
feed-forward layers keep no state.
"""


def _associative(results: Mapping[str, Any]) -> str:
    """What the associative heads are, if they were measured."""
    if ASSOCIATIVE not in results["models"]:
        return ""
    alone, beside = (
        MIXERS[name]["num_associative_heads"] for name in (ASSOCIATIVE, GATED_ASSOCIATIVE)
    )
    keys = results["sizes"]["d"] // 8
    return f"""Associative: the gated delta rule in heads of {keys} keys and values, {alone} of them
alone or {beside} beside gated sums.

"""


def draw_language(results: Mapping[str, Any], folder: Path) -> None:
    """Draw speed.png to `folder`: three panels on log axes, for the last number of threads."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    tokens = results["sizes"]["tokens"]
    for axis, part, title in (
        (axes[0], "training", "training"),
        (axes[1], "mixers", "one mixer, forward and backward"),
    ):
        seconds = results[part][-1]["seconds"]
        for name, style in series_styles(seconds).items():
            lengths, speeds = zip(*((n, tokens / t) for n, t in seconds[name]))
            axis.plot(lengths, speeds, **style._asdict(), label=name)
        axis.set(title=title, xlabel="tokens per row", ylabel="tokens per second")
    runs = [run for run in results["decoding"] if run["threads"] == results["threads"][-1]]
    contexts = [run["context"] for run in runs]
    for name, style in series_styles(runs[0]["milliseconds"]).items():
        milliseconds = [run["milliseconds"][name] for run in runs]
        axes[2].plot(contexts, milliseconds, **style._asdict(), label=name)
    axes[2].set(title="decoding", xlabel="tokens of context", ylabel="ms per token")
    for axis, ticks in zip(axes, (*[results["sizes"]["lengths"]] * 2, contexts)):
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    save_figure(figure, folder / "speed.png")
