"""The study of denoisers for handwritten digits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from research.cli.options import Resume, output_folder, quiet_diffusers, split_names


def diffusion(
    mixers: Annotated[
        str, typer.Option(help="Mixers to compare, separated by commas.")
    ] = "aggregation,attention",
    patch_size: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")] = 4,
    d_model: Annotated[int, typer.Option(min=2, help="Model dimension.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Number of blocks.")] = 6,
    steps: Annotated[int, typer.Option(min=1, help="Number of optimizer steps.")] = 3000,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-6, help="Peak learning rate (default: searched for each mixer)."),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=10, help="Number of images to generate and evaluate.")
    ] = 500,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds to train with.")] = 1,
    speed: Annotated[
        bool, typer.Option(help="Measure the seconds per training step and per image.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/diffusion"),
    resume: Resume = False,
) -> None:
    """Compare aggregation and attention as denoisers of handwritten digits.

    Generated digits are evaluated by a classifier of real ones.
    """
    quiet_diffusers()
    from hyperagg.data.datasets.digits import load_mnist
    from research.benchmarks.diffusion import bench_denoisers, speed_table
    from research.studies.diffusion import compare_denoisers, denoisers_table

    digits = load_mnist()
    with output_folder(out):
        results = compare_denoisers(
            digits,
            out,
            mixers=split_names("--mixers", mixers),
            patch_size=patch_size,
            d_model=d_model,
            layers=layers,
            steps=steps,
            learning_rate=learning_rate,
            samples=samples,
            seeds=seeds,
            resume=resume,
            progress=sys.stderr.isatty(),
        )
        print(denoisers_table(results))
        if speed:
            print(speed_table(bench_denoisers(out / "speed", d_model=d_model, layers=layers)))
    print(f"Wrote results.json, tables, images and models to {out}")
