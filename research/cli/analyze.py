"""python -m research analyze: analyze trained models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from research.cli.options import output_folder

app = typer.Typer(
    no_args_is_help=True,
    help="Analyze trained models.",
    epilog="Example: python -m research analyze orthogonality model",
)


@app.callback()
def group() -> None:
    """Make `analyze` a group of commands."""


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
    from hyperagg._common.atomic import atomic_write
    from hyperagg._common.report import make_table
    from research.analysis.figures import draw_cosines
    from research.analysis.orthogonality import measure

    # Whole paths are needed as names only where two folders share their last part.
    last = [path.resolve().name for path in models]
    names = last if len(set(last)) == len(last) else [str(path) for path in models]
    measured = measure(
        {
            name: TextClassifier.from_pretrained(path).word_vectors()
            for name, path in zip(names, models)
        }
    )
    rows = [
        [
            panel,
            name,
            f"{c.mean:+.4f}",
            f"{c.deviation:.4f}",
            f"{c.minimum:+.3f}",
            f"{c.maximum:+.3f}",
        ]
        for panel, by_model in measured.items()
        for name, c in by_model.items()
    ]
    columns = ["words", "model", "mean", "deviation", "minimum", "maximum"]
    values = {
        panel: {name: asdict(c) for name, c in by_model.items()}
        for panel, by_model in measured.items()
    }
    with output_folder(out, resumable=False):
        draw_cosines(measured, out / "cosines.png")
        with atomic_write(out / "cosines.json") as draft:
            draft.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    Console().print(make_table("Cosines of all pairs of token embeddings", columns, rows))
    print(f"Wrote cosines.png and cosines.json to {out}")
