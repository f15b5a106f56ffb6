"""python -m research analyze: analyze trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from research.cli.options import output_folder

app = typer.Typer(
    no_args_is_help=True,
    help="Analyze trained models.",
    epilog="Example: python -m research analyze orthogonality model",
)


@app.command(epilog="Example: python -m research analyze orthogonality runs/r52/models/aggregation")
def orthogonality(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="Model folders that `train` wrote.")
    ],
    out: Annotated[
        Path, typer.Option(help="Output folder of cosines.png and cosines.json.")
    ] = Path(),
) -> None:
    """Compare the pairwise cosines of token embeddings with those of an untrained embedding."""
    from rich.console import Console

    from hyperagg import TextClassifier
    from hyperagg._common.report import make_table
    from research.studies.cosines import write_cosines

    # Whole paths are needed as names only where two folders share their last part.
    last = [path.resolve().name for path in models]
    names = last if len(set(last)) == len(last) else [str(path) for path in models]
    vectors = {
        name: TextClassifier.from_pretrained(path).word_vectors()
        for name, path in zip(names, models)
    }
    with output_folder(out, resumable=False):
        measured = write_cosines(vectors, out)
    rows = [
        [
            panel,
            name,
            f"{c['mean']:+z.4f}",
            f"{c['deviation']:.4f}",
            f"{c['minimum']:+z.3f}",
            f"{c['maximum']:+z.3f}",
        ]
        for panel, by_model in measured.items()
        for name, c in by_model.items()
    ]
    columns = ["words", "model", "mean", "deviation", "minimum", "maximum"]
    Console().print(make_table("Cosines of all pairs of token embeddings", columns, rows))
    print(f"Wrote cosines.png and cosines.json to {out}")


@app.command(epilog="Example: python -m research analyze redraw results")
def redraw(
    folder: Annotated[
        Path, typer.Argument(help="Folder below which results.json and figures lie.")
    ] = Path("results"),
) -> None:
    """Draw the figures of studies and benchmarks again, from their results.json."""
    from research.redraw import redraw as draw

    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder")
    for path in draw(folder):
        print(path)
