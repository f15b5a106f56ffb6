"""The study of several modalities in one sum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from research.cli.options import Resume, Seeds, output_folder


def multimodal(
    part: Annotated[
        Literal["digits", "reviews", "regression", "classification", "subsets", "speed", "all"],
        typer.Option(
            help="digits: written and spoken digits. reviews: texts with numbers and categories. "
            "regression, classification: default settings beside ridge and logistic "
            "regression. "
            "subsets: any subset of three modalities. speed: seconds per training step."
        ),
    ] = "all",
    seeds: Seeds = 3,
    out: Annotated[Path, typer.Option(help="Output folder, with one subfolder per part.")] = Path(
        "runs/multimodal"
    ),
    resume: Resume = False,
) -> None:
    """Compare the sum of several modalities with concatenation, attention, ridge and boosting."""
    from research.benchmarks.multimodal import bench_multimodal
    from research.studies.multimodal.run import PARTS, run_part

    names = (*PARTS, "speed") if part == "all" else (part,)
    with output_folder(out):
        for name in names:
            if name == "speed":
                print(bench_multimodal(out / name))
                continue
            for table in run_part(name, out, seeds, resume=resume):
                print(table)
    print(f"Wrote results.json and tables to {', '.join(str(out / name) for name in names)}")
