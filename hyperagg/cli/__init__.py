"""The command line: one file a command."""

from __future__ import annotations

import typer

from hyperagg.cli import (
    compare,
    convert,
    data,
    diffusion,
    evaluate,
    explain,
    lm,
    predict,
    quantize,
    train,
    tune,
)
from hyperagg.cli._runner import run_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="hyperagg",
    no_args_is_help=True,
    add_completion=False,
    help="Linear-time sequence models by high-dimensional aggregation.",
    epilog="Example: hyperagg train reviews.csv --text review --label stars --out model",
)
for command in (compare, train, tune, evaluate, predict, explain, quantize, convert):
    app.command(epilog=command.EXAMPLE)(getattr(command, command.__name__.rpartition(".")[2]))
app.add_typer(lm.app, name="lm")
app.add_typer(diffusion.app, name="diffusion")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line."""
    run_app(app, "hyperagg")
