"""The command line: one file per command."""

from __future__ import annotations

from typing import Annotated

import typer

import hyperagg
from hyperagg._common.terminal import echo
from hyperagg.cli import (
    compare,
    convert,
    data,
    diffusion,
    evaluate,
    explain,
    export,
    lm,
    predict,
    quantize,
    serve,
    train,
    tune,
)
from hyperagg.cli._command import check_arguments
from hyperagg.cli._runner import run_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="hyperagg",
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    no_args_is_help=True,
    epilog="Example: hyperagg train reviews.csv --text review --label stars --out model",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"hyperagg {hyperagg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Linear-time sequence models by high-dimensional aggregation."""


commands = (train, evaluate, predict, explain, tune, quantize, convert, export, compare, serve)
for command in commands:
    app.command(epilog=command.EXAMPLE)(getattr(command, command.__name__.rpartition(".")[2]))
app.add_typer(data.app, name="data")
app.add_typer(lm.app, name="lm")
app.add_typer(diffusion.app, name="diffusion")
check_arguments(app)


def main() -> None:
    """Runs the command line."""
    run_app(app, "hyperagg")
