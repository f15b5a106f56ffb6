"""python -m research analyze: what a trained model holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import output_folder

app = typer.Typer(
    no_args_is_help=True,
    help="Look into trained models.",
    epilog="Example: python -m research analyze orthogonality model",
)


@app.callback()
def group() -> None:
    """Keeps `analyze` a group of commands while it has only one."""


@app.command(epilog="Example: python -m research analyze orthogonality runs/r52/models/aggregation")
def orthogonality(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Folders of models.")],
    out: Annotated[Path, typer.Option(help="Folder for cosines.png and cosines.json.")] = Path(),
) -> None:
    """Pairwise cosines of the token embeddings, beside an untrained embedding as the null."""
    from rich.console import Console

    from hyperagg._common.atomic import atomic_write
    from hyperagg._common.report import make_table
    from hyperagg.classifier.estimator import TextClassifier
    from research.analysis.figures import draw_cosines
    from research.analysis.orthogonality import measure

    # Two folders may share a last name; then the whole paths tell them apart.
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
            f"{c.least:+.3f}",
            f"{c.greatest:+.3f}",
        ]
        for panel, models_ in measured.items()
        for name, c in models_.items()
    ]
    columns = ["words", "model", "mean", "deviation", "least", "greatest"]
    described = {
        panel: {name: asdict(c) for name, c in models_.items()}
        for panel, models_ in measured.items()
    }
    with output_folder(out):
        draw_cosines(measured, out / "cosines.png")
        with atomic_write(out / "cosines.json") as draft:
            draft.write_text(json.dumps(described, indent=1) + "\n", "utf-8")
    Console().print(make_table("cosines of all pairs of token embeddings", columns, rows))
    print(f"cosines.png and cosines.json in {out}")
