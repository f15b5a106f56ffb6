"""The page and the picture of what `bench_text` measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from research.analysis.figures import draw_bars
from research.benchmarks.text import FASTTEXT, FEWER_ROWS, OURS

__all__ = ["text_table", "write_text_page"]


def write_text_page(folder: Path, results: Mapping[str, Any]) -> None:
    """results.json, README.md, table.md and the picture in `folder`."""
    write_results(folder, results)
    bars = {}
    for trained, predicted in zip(results["training"], results["prediction"]):
        name = _name(trained)
        bars[f"{name}: training"] = _ratio(trained["seconds"])
        bars[f"{name}: all texts in a call"] = _ratio(predicted["seconds"])
        bars[f"{name}: a text a call"] = _ratio(predicted["seconds_of_one"])
    for row in results["as_accurate"]:
        bars[f"{row['set']}, {_threads(row)}: as accurate"] = _ratio(row["seconds"])
    draw_bars(bars, "times as fast as fastText", folder / "ratios.png")
    for name, text in (("README.md", _page(results)), ("table.md", text_table(results))):
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")


def text_table(results: Mapping[str, Any]) -> str:
    """Ours in figures, and × how many times as fast as fastText it is."""
    rows = []
    for trained, predicted in zip(results["training"], results["prediction"]):
        words, documents = _counts(results, trained["set"])
        rows.append(
            [
                trained["set"],
                trained["features"],
                str(trained["threads"]),
                f"{words[0] * results['epochs'] / trained['seconds'][OURS] / 1e6:.2f}",
                f"{_ratio(trained['seconds']):.2f}",
                f"{documents[1] / predicted['seconds'][OURS]:,.0f}",
                f"{_ratio(predicted['seconds']):.2f}",
                f"{1e6 * predicted['seconds_of_one'][OURS]:.0f}",
                f"{_ratio(predicted['seconds_of_one']):.2f}",
            ]
        )
    columns = ["set", "tokens", "threads", "training, M words/s", "×"]
    return markdown_table([*columns, "all texts, docs/s", "×", "one text, µs", "×"], rows)


def _page(results: Mapping[str, Any]) -> str:
    machine, epochs = results["environment"], results["epochs"]
    fasttext = next(f"{name} {v}" for name, v in machine.items() if name.startswith("fasttext"))
    sets = "\n".join(
        f"- {s['set']}: {s['rows'][0]:,} and {s['rows'][1]:,} rows, {s['words'][0]:,} and "
        f"{s['words'][1]:,} words to learn and to test; {s['source']}"
        for s in results["sets"]
    )
    load = (
        ""
        if machine["load"] is None
        else f"When it began, other work loaded the cores by {machine['load']:.1f}."
    )
    return f"""# The classifier beside fastText

Written by `python -m research bench text` from results.json beside it; do not edit.

{machine["processor"]}, {machine["cores"]} cores, torch {machine["torch"]},
numba {machine["numba"]}, hyperagg {machine["hyperagg"]}, {fasttext}. Medians;
both sides take turns in one process, after a call each to warm up. Dimension {results["dimension"]}
on both sides; all else as it comes, unless named.
{load}

{sets}

{text_table(results)}
×: times as fast as fastText. Threads: those that ours may use, and those that fastText trains with;
it predicts with one. Threads of ours wait for each other in training, so that other work on a core
holds up both; those of fastText do not.

![Times as fast as fastText](ratios.png)

The words are the same on both sides: those of `hyperagg.text.WORD_PATTERN` in lower-cased text, marks
included. Ours gets texts in memory and cuts them itself. fastText gets its words ready, in a file
(or, to predict, a line a text) in lower case with a space between them, the rows shuffled, and the
writing of these is not charged to it.

"and pairs": fastText with wordNgrams=2, whose pairs are hashed into {results["buckets"]:,} rows;
ours with its default grams, which are more: pairs, and beginnings and endings of long words, the
{results["grams"]:,} most used of them all. It has no pairs alone. Words are counted, not tokens.

## Training, {epochs} epochs, from text to model

{_training(results)}
Words: of the training texts, times epochs. No rows held out. With as few rows: fastText with as
many for its pairs as ours has for its grams at most, and not its default.

### Where our seconds go

{_parts(results)}
Parts timed by themselves but for the epochs, which are those of the whole; the rest is what is
left. Copies: of the embedding's rows of all tokens, at the speed of a copy of the whole embedding
on the same threads; an epoch can do no less than read and write them once.

## As accurate as fastText, pairs on both sides

{_as_accurate(results)}
Chosen on a tenth of the training rows that was held out, with one thread: fastText's rate and
epochs, and then our fewest epochs that are at least as accurate there, or where none are, the best.
Times and test accuracy are of all training rows. fastText's settings on the held-out rows, accuracy
in %:

{_grid(results)}
## Prediction, from text to labels

{_prediction(results)}
All test texts in one call; and one text a call, another one each time, the median of
{results["single"]:,} calls. In copies: ours, of the rows of all tokens. The models are those of
{epochs} epochs above.
"""


def _training(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["training"]:
        words = _counts(results, row["set"])[0][0] * results["epochs"]
        seconds = row["seconds"]
        rows.append(
            [
                _name(row),
                *(f"{seconds[side]:.2f}" for side in (OURS, FASTTEXT)),
                *(f"{words / seconds[side] / 1e6:.2f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(seconds):.2f}",
                f"{seconds[FEWER_ROWS] / seconds[OURS]:.2f}" if FEWER_ROWS in seconds else "",
            ]
        )
    columns = ["", "ours, s", "fastText, s", "ours, M words/s", "fastText"]
    columns += ["×", "× with as few rows"]
    return markdown_table(columns, rows)


def _parts(results: Mapping[str, Any]) -> str:
    rows = [
        [
            _name(row),
            *(f"{seconds:.2f}" for seconds in row["parts"].values()),
            f"{row['tokens'] / max(1, _counts(results, row['set'])[0][0]):.2f}",
            f"{row['vocabulary']:,}",
            f"{row['epoch_in_copies']:.1f}",
        ]
        for row in results["training"]
    ]
    columns = ["", *results["training"][0]["parts"]]
    columns += ["tokens a word", "rows", "an epoch in copies"]
    return markdown_table(columns, rows)


def _as_accurate(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["as_accurate"]:
        held_out = row["held_out"]
        rows.append(
            [
                f"{row['set']}, {_threads(row)}",
                f"{row['lr']}, {row['epoch']}",
                str(row["epochs"]),
                *(f"{row['seconds'][side]:.2f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(row['seconds']):.2f}",
                *(f"{100 * max(held_out[side]):.2f}" for side in (OURS, FASTTEXT)),
                *(f"{100 * row['accuracy'][side]:.2f}" for side in (OURS, FASTTEXT)),
            ]
        )
    columns = ["", "rate, epochs of fastText", "our epochs", "ours, s", "fastText, s", "×"]
    columns += ["held out, ours %", "fastText %", "test, ours %", "fastText %"]
    return markdown_table(columns, rows)


def _prediction(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["prediction"]:
        documents = _counts(results, row["set"])[1][1]
        seconds, one = row["seconds"], row["seconds_of_one"]
        rows.append(
            [
                _name(row),
                *(f"{documents / seconds[side]:,.0f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(seconds):.2f}",
                f"{row['in_copies']:.1f}",
                *(f"{1e6 * one[side]:.1f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(one):.2f}",
                *(f"{100 * row['accuracy'][side]:.2f}" for side in (OURS, FASTTEXT)),
            ]
        )
    columns = ["", "ours, docs/s", "fastText", "×", "in copies", "one text, ours µs", "fastText"]
    columns += ["×", "test, ours %", "fastText %"]
    return markdown_table(columns, rows)


def _counts(results: Mapping[str, Any], name: str) -> tuple[list[int], list[int]]:
    """Words and rows, each to train and to test."""
    found = next(each for each in results["sets"] if each["set"] == name)
    return found["words"], found["rows"]


def _grid(results: Mapping[str, Any]) -> str:
    """Held-out accuracy of fastText, a column a set."""
    tried = {row["set"]: row["held_out"][FASTTEXT] for row in results["as_accurate"]}
    rows = [
        [f"{lr}, {epoch}", *(f"{100 * scores[i]:.2f}" for scores in tried.values())]
        for i, (lr, epoch) in enumerate(results["grid"])
    ]
    columns = ["rate, epochs", *tried]
    return markdown_table(columns, rows)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['set']}, {row['features']}, {_threads(row)}"


def _threads(row: Mapping[str, Any]) -> str:
    return "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"


def _ratio(seconds: Mapping[str, float]) -> float:
    return seconds[FASTTEXT] / seconds[OURS]
