"""hyperagg tune: from a file of texts and labels to a saved model, its arguments searched for."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import File, Format, Label, LabelSeparator, Text, output_folder, say

EXAMPLE = "Example: hyperagg tune reviews.csv --text review --label stars --seconds 300 --out model"


def tune(
    file: File,
    seconds: Annotated[float, typer.Option(help="For everything, the last training too.")],
    text: Text = None,
    label: Label = None,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("model"),
    trials: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="For the saved embedding: rows × d_model × 4 bytes.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Same seed and trials, same weights, if time suffices.")
    ] = 0,
    format: Format = None,
    label_separator: LabelSeparator = None,
) -> None:
    """Search for the arguments that suit a file, within a time, and train with the best."""
    from rich.console import Console

    from hyperagg._common.report import make_table
    from hyperagg.classifier.tuning.search import tune as run
    from hyperagg.data import read_file

    rows = read_file(file, text, label, format=format, label_separator=label_separator)
    with output_folder(out):
        tuned = run(
            rows.texts, rows.labels, seconds=seconds, trials=trials, max_mb=max_mb, seed=seed
        )
        tuned.classifier.save_pretrained(out)
    measure = "micro-F1 %" if tuned.classifier.multi_label_ else "accuracy %"
    columns = ["", measure, "s", "MB", "d", "grams", "min", "rate", "epochs", "smooth"]
    cells = [
        [
            ("default" if i == 0 else str(i)) + (" *" if trial is tuned.best else ""),
            "diverged" if isnan(trial.score) else f"{100 * trial.score:.2f}",
            f"{trial.seconds:.1f}",
            f"{trial.megabytes:.1f}",
            str(trial.config["d_model"]),
            f"{trial.config['max_ngrams']:,}",
            str(trial.config["min_count"]),
            f"{trial.config['learning_rate']:.4f}",
            str(trial.config["epochs"]),
            f"{trial.config['label_smoothing']:.2f}",
        ]
        for i, trial in enumerate(tuned.trials)
    ]
    Console().print(make_table("trials, on held-out rows; *: the best", columns, cells))
    say(f"{len(rows.texts):,} rows, {len(tuned.classifier.classes_)} classes -> {out}")
