"""Page and figure of the results of `bench_text`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from research.analysis.figures import draw_bars
from research.benchmarks.text import EQUAL_ROWS, FASTTEXT, OURS

__all__ = ["draw_text", "text_table", "write_text_page"]


def write_text_page(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json, README.md, table.md and ratios.png to `folder`."""
    write_results(folder, results)
    draw_text(results, folder)
    for name, text in (("README.md", _page(results)), ("table.md", text_table(results))):
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")


def draw_text(results: Mapping[str, Any], folder: Path) -> None:
    """Draw ratios.png to `folder`."""
    bars = {}
    for trained, predicted in zip(results["training"], results["prediction"]):
        name = _name(trained)
        bars[f"{name}: training"] = _ratio(trained["seconds"])
        bars[f"{name}: all texts per call"] = _ratio(predicted["seconds"])
        bars[f"{name}: one text per call"] = _ratio(predicted["seconds_per_single_text"])
    for row in results["equal_accuracy"]:
        bars[f"{row['dataset']}, {_threads(row)}: equal accuracy"] = _ratio(row["seconds"])
    draw_bars(bars, "speed in multiples of fastText", "fastText", folder / "ratios.png")


def text_table(results: Mapping[str, Any]) -> str:
    """Format our speed, and ×, its multiples of the speed of fastText."""
    rows = []
    for trained, predicted in zip(results["training"], results["prediction"]):
        words, documents = _counts(results, trained["dataset"])
        rows.append(
            [
                trained["dataset"],
                trained["features"],
                str(trained["threads"]),
                f"{words[0] * results['epochs'] / trained['seconds'][OURS] / 1e6:.2f}",
                f"{_ratio(trained['seconds']):.2f}",
                f"{documents[1] / predicted['seconds'][OURS]:,.0f}",
                f"{_ratio(predicted['seconds']):.2f}",
                f"{1e6 * predicted['seconds_per_single_text'][OURS]:.0f}",
                f"{_ratio(predicted['seconds_per_single_text']):.2f}",
            ]
        )
    columns = ["dataset", "tokens", "threads", "training, M words/s", "×"]
    return markdown_table([*columns, "all texts, documents/s", "×", "one text, µs", "×"], rows)


def _page(results: Mapping[str, Any]) -> str:
    machine, epochs = results["environment"], results["epochs"]
    fasttext = next(f"{name} {v}" for name, v in machine.items() if name.startswith("fasttext"))
    datasets = "\n".join(
        f"- {each['dataset']}: {each['rows'][0]:,} training rows of {each['words'][0]:,} words, "
        f"{each['rows'][1]:,} test rows of {each['words'][1]:,} words; {each['source']}"
        for each in results["datasets"]
    )
    load = (
        ""
        if machine["load"] is None
        else f"At the start, other work loaded the cores by {machine['load']:.1f}."
    )
    return f"""# The classifier beside fastText

Written by `python -m research bench text` from results.json beside it; do not edit.

{machine["processor"]}, {machine["cores"]} cores, torch {machine["torch"]},
numba {machine["numba"]}, hyperagg {machine["hyperagg"]}, commit {machine["commit"]}, {fasttext}.
Medians; both sides are timed
interleaved in one process after a warm-up. Dimension {results["dimension"]} on both sides; all
other settings are the defaults unless stated.
{load}

{datasets}

{text_table(results)}
×: multiples of the speed of fastText. Threads: the number that our classifier may use and that
fastText trains with; fastText predicts with one.

![Speed in multiples of fastText, with a line at 1, its own speed](ratios.png)

The words are the same on both sides: those of `hyperagg.text.WORD_PATTERN` in the lower-case text,
including punctuation. Our classifier gets texts in memory and splits them itself. fastText gets
prepared words, in a file (or, to predict, one line per text), in lower case, separated by spaces,
with shuffled rows; preparing them is not part of its time.

"n-grams": fastText with wordNgrams=2, whose bigrams are hashed into {results["buckets"]:,} rows;
our classifier with its default n-grams: word bigrams, and prefixes and suffixes of long words, the
{results["max_ngrams"]:,} most frequent ones in total. It has no option for bigrams alone. Words are
counted, not tokens.

## Training, {epochs} epochs, from texts to a model

{_training(results)}
Words: those of the training texts, times epochs. No rows are held out. Equal rows: fastText with as
many rows for bigrams as our classifier has for n-grams at most, instead of its default.

### Where our time is spent

{_parts(results)}
The parts are timed separately, except for the epochs, which are those of the whole; the rest is the
remainder. Copies: copying the embedding rows of all tokens once, at the speed of copying the whole
embedding on the same threads. An epoch has to read and write them at least once.

## Time to equal accuracy, n-grams on both sides

{_equal_accuracy(results)}
Selected on a held-out tenth of the training rows, with one thread: the learning rate and epochs of
fastText, and then the smallest number of our epochs that is at least as accurate there, or else the
best. Times and test accuracy are those of training on all rows. Held-out accuracy of the settings
of fastText in %:

{_grid(results)}
## Prediction, from texts to labels

{_prediction(results)}
All test texts in one call; and one text per call, a different one each time, the median of
{results["single"]:,} calls. Copies: ours, in copies of the rows of all tokens. The models are those
of {epochs} epochs above.
"""


def _training(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["training"]:
        words = _counts(results, row["dataset"])[0][0] * results["epochs"]
        seconds = row["seconds"]
        rows.append(
            [
                _name(row),
                *(f"{seconds[side]:.2f}" for side in (OURS, FASTTEXT)),
                *(f"{words / seconds[side] / 1e6:.2f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(seconds):.2f}",
                f"{seconds[EQUAL_ROWS] / seconds[OURS]:.2f}" if EQUAL_ROWS in seconds else "",
            ]
        )
    columns = ["training", "ours, s", "fastText, s", "ours, M words/s", "fastText, M words/s"]
    columns += ["×", "× with equal rows"]
    return markdown_table(columns, rows)


def _parts(results: Mapping[str, Any]) -> str:
    rows = [
        [
            _name(row),
            *(f"{seconds:.2f}" for seconds in row["parts"].values()),
            f"{row['tokens'] / max(1, _counts(results, row['dataset'])[0][0]):.2f}",
            f"{row['vocab_size']:,}",
            f"{row['copies_per_epoch']:.1f}",
        ]
        for row in results["training"]
    ]
    columns = ["seconds", *results["training"][0]["parts"]]
    columns += ["tokens per word", "rows", "copies per epoch"]
    return markdown_table(columns, rows)


def _equal_accuracy(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["equal_accuracy"]:
        held_out = row["held_out"]
        rows.append(
            [
                f"{row['dataset']}, {_threads(row)}",
                f"{row['lr']}, {row['epoch']}",
                str(row["epochs"]),
                *(f"{row['seconds'][side]:.2f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(row['seconds']):.2f}",
                *(f"{100 * max(held_out[side]):.2f}" for side in (OURS, FASTTEXT)),
                *(f"{100 * row['accuracy'][side]:.2f}" for side in (OURS, FASTTEXT)),
            ]
        )
    columns = ["equal accuracy", "fastText: learning rate, epochs", "our epochs"]
    columns += ["ours, s", "fastText, s", "×"]
    columns += ["held out, ours %", "fastText %", "test, ours %", "fastText %"]
    return markdown_table(columns, rows)


def _prediction(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["prediction"]:
        documents = _counts(results, row["dataset"])[1][1]
        seconds, single = row["seconds"], row["seconds_per_single_text"]
        rows.append(
            [
                _name(row),
                *(f"{documents / seconds[side]:,.0f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(seconds):.2f}",
                f"{row['copies']:.1f}",
                *(f"{1e6 * single[side]:.1f}" for side in (OURS, FASTTEXT)),
                f"{_ratio(single):.2f}",
                *(f"{100 * row['accuracy'][side]:.2f}" for side in (OURS, FASTTEXT)),
            ]
        )
    columns = ["prediction", "ours, documents/s", "fastText, documents/s", "×", "copies"]
    columns += ["one text, ours µs", "fastText µs", "×", "test, ours %", "fastText %"]
    return markdown_table(columns, rows)


def _counts(results: Mapping[str, Any], name: str) -> tuple[list[int], list[int]]:
    """Words and rows, each of the training and the test split."""
    found = next(each for each in results["datasets"] if each["dataset"] == name)
    return found["words"], found["rows"]


def _grid(results: Mapping[str, Any]) -> str:
    """Format the held-out accuracy of fastText, one column per data set."""
    tried = {row["dataset"]: row["held_out"][FASTTEXT] for row in results["equal_accuracy"]}
    rows = [
        [f"{lr}, {epoch}", *(f"{100 * scores[i]:.2f}" for scores in tried.values())]
        for i, (lr, epoch) in enumerate(results["grid"])
    ]
    columns = ["learning rate, epochs", *tried]
    return markdown_table(columns, rows)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}, {row['features']}, {_threads(row)}"


def _threads(row: Mapping[str, Any]) -> str:
    return "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"


def _ratio(seconds: Mapping[str, float]) -> float:
    return seconds[FASTTEXT] / seconds[OURS]
