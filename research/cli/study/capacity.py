"""The study of how many tokens a sum holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from research.cli.options import (
    Resume,
    Seeds,
    output_folder,
    quiet_transformers,
    split_integers,
    split_names,
)


def capacity(
    part: Annotated[
        Literal["retrieval", "tasks", "all"],
        typer.Option(help="Retrieval of tokens from a sum, trained tasks, or both."),
    ] = "all",
    tasks: Annotated[
        str | None, typer.Option(help="Names of tasks, separated by commas (default: all).")
    ] = None,
    mixers: Annotated[
        str | None, typer.Option(help="Mixers of the tasks, separated by commas (default: all).")
    ] = None,
    dimensions: Annotated[
        str | None,
        typer.Option(help="Values of d, separated by commas (default: those of each part)."),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="Values of n, separated by commas (default: those of each part)."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the tasks.")] = 500,
    seeds: Seeds = 1,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/capacity"),
    resume: Resume = False,
) -> None:
    """Measure how many tokens fit into d dimensions: in theory, in retrieval and in tasks."""
    options: dict[str, Any] = {
        "dimensions": None if dimensions is None else split_integers("--dimensions", dimensions),
        "lengths": None if lengths is None else split_integers("--lengths", lengths),
        "resume": resume,
        "progress": sys.stderr.isatty(),
    }
    tables: list[str] = []
    with output_folder(out):
        if part != "tasks":
            from research.studies.capacity import retrieval, retrieval_tables

            tables += retrieval_tables(retrieval(out, **options)).values()
        if part != "retrieval":
            quiet_transformers()
            from research.studies.capacity_tasks import TASKS, run_tasks, task_tables

            names = list(TASKS) if tasks is None else split_names("--tasks", tasks)
            if mixers is not None:
                options["mixers"] = split_names("--mixers", mixers)
            results = run_tasks(out / "tasks", tasks=names, steps=steps, seeds=seeds, **options)
            tables += task_tables(results).values()
    print("\n".join(tables))
    print(f"Wrote results.json and tables to {out}")
