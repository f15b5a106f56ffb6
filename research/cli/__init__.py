"""The command line of the research package: one file per group of commands."""

from __future__ import annotations

import typer

from hyperagg.cli._runner import run_app
from research.cli import analyze, bench, frontier_studies

__all__ = ["app", "main"]

app = typer.Typer(
    name="research",
    no_args_is_help=True,
    add_completion=False,
    help="Studies, benchmarks and analyses of hyperagg.",
    epilog="Example: python -m research study reuters --protocol corrected",
)
app.add_typer(frontier_studies.app, name="study")  # the commands of study.py, and three more
app.add_typer(analyze.app, name="analyze")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line."""
    run_app(app, "python -m research")
