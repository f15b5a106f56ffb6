"""python -m research bench: how fast it is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import output_folder, say

app = typer.Typer(
    no_args_is_help=True,
    help="Time the ops, the classifier and language models on this machine.",
    epilog="Example: python -m research bench ops",
)


@app.callback()
def group() -> None:
    """Benchmarks are a group of commands."""


@app.command(epilog="Example: python -m research bench ops --out runs/bench-ops")
def ops(
    out: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path(
        "runs/bench-ops"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Small shapes, to try it out.")] = False,
) -> None:
    """The ops beside a copy of the same bytes, torch.cumsum, attention and nn.EmbeddingBag."""
    from rich.console import Console

    from research.benchmarks.ops import FULL_SIZE, QUICK, bench_ops
    from research.benchmarks.ops_page import write_page

    console = Console(stderr=True)
    with output_folder(out):
        with console.status("comparing with the reference") as status:
            results = bench_ops(QUICK if quick else FULL_SIZE, lambda part: status.update(part))
        write_page(out, results)
    ours, rivals = results["causal"]["forward"]["aggregate"], results["causal"]["forward"]
    for name, seconds in rivals.items():
        print(f"{name}: {1000 * seconds:.2f} ms, {seconds / ours:.1f} × ours")
    say(f"README.md, results.json and pictures in {out}")


@app.command(epilog="Example: python -m research bench text --sets ag-news --out runs/bench-text")
def text(
    sets: Annotated[
        str, typer.Option(help="Names that `hyperagg data list` shows, separated by commas.")
    ] = "imdb,ag-news",
    threads: Annotated[str, typer.Option(help="How many, separated by commas.")] = "1,2",
    out: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path(
        "runs/bench-text"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Few rows, to try it out.")] = False,
) -> None:
    """The classifier beside fastText: training, prediction, and time to the same accuracy."""
    from rich.console import Console

    from hyperagg.data import load_dataset
    from research.benchmarks.text import FULL_TEXT, QUICK_TEXT, bench_text
    from research.benchmarks.text_page import text_table, write_text_page

    numbers = _numbers(threads)
    datasets = [load_dataset(name.strip()) for name in sets.split(",") if name.strip()]
    if not datasets:
        raise ValueError("--sets: name at least one")
    console = Console(stderr=True)
    with output_folder(out):
        with console.status("fastText's files") as status:
            results = bench_text(
                datasets,
                numbers,
                QUICK_TEXT if quick else FULL_TEXT,
                lambda part: status.update(part),
            )
        write_text_page(out, results)
    print(text_table(results))
    say(f"README.md, table.md, results.json and ratios.png in {out}")


@app.command(epilog="Example: python -m research bench lm --threads 2 --out runs/bench-lm")
def lm(
    threads: Annotated[
        str | None,
        typer.Option(help="How many, separated by commas; else as many as PyTorch takes."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path(
        "runs/bench-lm"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Small shapes, to try it out.")] = False,
) -> None:
    """Language models of gates beside attention: training against length, decoding against
    context."""
    from rich.console import Console

    from research.benchmarks.language import FULL_LANGUAGE, QUICK_LANGUAGE, bench_language
    from research.benchmarks.language_page import (
        decoding_table,
        training_table,
        write_language_page,
    )

    numbers = None if threads is None else _numbers(threads)
    console = Console(stderr=True)
    with output_folder(out):
        with console.status("models") as status:
            results = bench_language(
                numbers,
                QUICK_LANGUAGE if quick else FULL_LANGUAGE,
                lambda part: status.update(part),
            )
        write_language_page(out, results)
    print(training_table(results))
    print(decoding_table(results))
    say(f"README.md, tables, results.json and speed.png in {out}")


def _numbers(threads: str) -> list[int]:
    numbers = [number.strip() for number in threads.split(",") if number.strip()]
    if not numbers or not all(number.isdecimal() and int(number) for number in numbers):
        raise ValueError(f"--threads {threads}: give whole numbers, 1 or more, as in 1,2")
    return [int(number) for number in numbers]
