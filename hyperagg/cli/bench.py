"""hyperagg bench: how fast it is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import output_folder, say

app = typer.Typer(
    no_args_is_help=True,
    help="Time the ops on this machine.",
    epilog="Example: hyperagg bench ops",
)


@app.callback()
def group() -> None:
    """Keeps `bench` a group of commands while it has only one."""


@app.command(epilog="Example: hyperagg bench ops --out runs/bench-ops")
def ops(
    out: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path(
        "runs/bench-ops"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Small shapes, to try it out.")] = False,
) -> None:
    """The ops beside a copy of the same bytes, torch.cumsum, attention and nn.EmbeddingBag."""
    from rich.console import Console

    from hyperagg.benchmarks import FULL_SIZE, QUICK, bench_ops, write_page

    console = Console(stderr=True)
    with output_folder(out):
        with console.status("comparing with the reference") as status:
            results = bench_ops(QUICK if quick else FULL_SIZE, lambda part: status.update(part))
        write_page(out, results)
    ours, rivals = results["causal"]["forward"]["aggregate"], results["causal"]["forward"]
    for name, seconds in rivals.items():
        print(f"{name}: {1000 * seconds:.2f} ms, {seconds / ours:.1f} × ours")
    say(f"README.md, results.json and pictures in {out}")
