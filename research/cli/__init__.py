"""The command line of the research package: one module per group of commands."""

from __future__ import annotations

import logging
import sys

import typer

from hyperagg.cli._runner import run_app
from research.cli import analyze, bench, study
from research.cli.results import results

__all__ = ["app", "main"]

app = typer.Typer(
    name="research",
    no_args_is_help=True,
    add_completion=False,
    help="Reproduce the studies, benchmarks and analyses of hyperagg.",
    epilog="Example: python -m research study reuters --protocol corrected",
)
app.add_typer(study.app, name="study")
app.add_typer(bench.app, name="bench")
app.add_typer(analyze.app, name="analyze")
app.command(epilog="Example: python -m research results --write")(results)


def main() -> None:
    """Run the command line; log messages go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("research", "hyperagg"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not logger.handlers:
            logger.addHandler(handler)
    run_app(app, "python -m research")
