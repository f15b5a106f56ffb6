"""The study of a first job by commands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from research.cli.options import output_folder


def first_job(
    rows: Annotated[int, typer.Option(min=100, help="Number of training rows.")] = 4_000,
    test_rows: Annotated[int, typer.Option(min=20, help="Number of test rows.")] = 1_000,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/first-job"),
) -> None:
    """Do a job from a file to a decision by commands, and in scikit-learn, and time both."""
    from research.studies.first_job import first_job_table, measure_first_job

    with output_folder(out):
        print(first_job_table(measure_first_job(out, rows=rows, test_rows=test_rows)))
    print(f"Wrote results.json, table.md and README.md to {out}")
