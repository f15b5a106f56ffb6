"""The study of trainings that are stopped and resumed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from research.cli.options import Resume, output_folder, split_names


def faults(
    moments: Annotated[
        int, typer.Option(min=1, help="Moments per product and fault, evenly spaced.")
    ] = 20,
    products: Annotated[
        str, typer.Option(help="Products, separated by commas.")
    ] = "classifier,multimodal,language,diffusion",
    faults: Annotated[
        str, typer.Option(help="Faults, separated by commas.")
    ] = "kill,terminate,interrupt,hang up,disk full",
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/faults"),
    resume: Resume = False,
) -> None:
    """Kill, terminate and fill the disk of trainings, resume them, and compare the weights."""
    from hyperagg._common.validation import check_choice
    from research.studies.faults import FAULTS, PRODUCTS, study_faults

    chosen = {}
    for option, given, known in (("--products", products, PRODUCTS), ("--faults", faults, FAULTS)):
        chosen[option] = tuple(split_names(option, given))
        for name in chosen[option]:
            check_choice(option, name, tuple(known))
    with output_folder(out), tempfile.TemporaryDirectory() as work:
        print(
            study_faults(
                out,
                Path(work),
                moments=moments,
                products=chosen["--products"],
                faults=chosen["--faults"],
                resume=resume,
            )
        )
    print(f"Wrote results.json and table.md to {out}")
