"""hyperagg compare: aggregation beside attention on a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import Resume, Seeds, output_folder, say, tell

EXAMPLE = "Example: hyperagg compare r52 --rivals attention --seeds 2 --out runs/r52"


def compare(
    dataset: Annotated[str, typer.Argument(help="A name that `hyperagg data list` shows.")],
    rivals: Annotated[
        str, typer.Option(help="Which rivals, separated by commas.")
    ] = "words,attention,transformer",
    seeds: Seeds = 1,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="For every model; else what is best for each.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Else runs/DATASET.")] = None,
    resume: Resume = False,
) -> None:
    """Train aggregation and its rivals; print one table, write results.json and pictures."""
    from rich.console import Console

    from hyperagg.classifier.compare import RIVALS, results_table
    from hyperagg.classifier.compare import compare as run
    from hyperagg.data import load_dataset

    out = out or Path("runs") / dataset
    names = [name.strip() for name in rivals.split(",") if name.strip()]
    for name in names:
        if name not in RIVALS:  # said before anything is fetched
            raise ValueError(
                f"--rivals {name}: there is no such rival; there are {', '.join(RIVALS)}"
            )
    data = load_dataset(dataset)
    with output_folder(out):
        print(f"{data.name}: {len(data.train.texts):,} train, {len(data.test.texts):,} test rows")
        print(f"source: {data.source}")
        try:
            results = run(
                data,
                names,
                seeds,
                out,
                epochs=epochs,
                resume=resume,
                progress=sys.stderr.isatty(),
                say=tell,
            )
        except KeyboardInterrupt:
            if (out / "runs.json").exists():
                say(f"stopped; what is measured is in {out}, go on with this command and --resume")
            raise
    Console().print(results_table(results))
    print(f"results.json, table.md, learning_curves.png, cosines.png and models in {out}")
