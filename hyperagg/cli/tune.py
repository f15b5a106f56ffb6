"""hyperagg tune: search hyperparameters for a file of texts and labels, and save the best model."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import (
    Delimiter,
    Files,
    Force,
    Format,
    Label,
    LabelSeparator,
    NoHeader,
    OnError,
    Quoting,
    Text,
    check_model_folder,
    logger,
    output_folder,
)

EXAMPLE = (
    "Example: hyperagg tune reviews.csv --text review --label stars --time-limit 300 --out model"
)


def tune(
    files: Files,
    time_limit: Annotated[
        float, typer.Option(help="Seconds for the search and the final training.")
    ],
    text: Text = None,
    label: Label = None,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("model"),
    trials: Annotated[int | None, typer.Option(min=1, help="Maximum number of trials.")] = None,
    max_size_mb: Annotated[
        float | None,
        typer.Option(
            help="Maximum size of the saved embedding in megabytes (rows × d_model × 4 bytes)."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Random seed. An equal seed and number of trials give equal weights if the time "
            "suffices.",
        ),
    ] = 0,
    format: Format = None,
    label_separator: LabelSeparator = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    on_error: OnError = "stop",
    force: Force = False,
) -> None:
    """Search hyperparameters within a time limit, and train on the files with the best."""
    from rich.console import Console

    from hyperagg._common.report import make_table
    from hyperagg.classifier.tuning.search import tune as run
    from hyperagg.data.readers.columns import ColumnSpec, pluralize
    from hyperagg.data.readers.files import read_columns
    from hyperagg.data.readers.stream import ReadOptions

    check_model_folder(out, force)
    spec = ColumnSpec("", text, label, label_separator=label_separator)
    rows = read_columns(
        files, spec, ReadOptions(format, delimiter, not no_header, quoting, on_error)
    )
    assert rows.labels is not None
    with output_folder(out):
        result = run(
            rows.texts,
            rows.labels,
            time_limit=time_limit,
            trials=trials,
            max_size_mb=max_size_mb,
            seed=seed,
        )
        result.classifier.save_pretrained(out)
    metric = "micro-F1 %" if result.classifier.multi_label_ else "accuracy %"
    columns = ["trial", metric, "s", "MB", "d_model", "max n-grams", "min count"]
    columns += ["learning rate", "epochs", "smoothing"]
    cells = [
        [
            ("default" if i == 0 else str(i)) + (" *" if trial is result.best_trial else ""),
            "diverged" if isnan(trial.score) else f"{100 * trial.score:.2f}",
            f"{trial.seconds:.1f}",
            f"{trial.size_mb:.1f}",
            str(trial.config["d_model"]),
            f"{trial.config['max_ngrams']:,}",
            str(trial.config["min_count"]),
            f"{trial.config['learning_rate']:.4f}",
            str(trial.config["epochs"]),
            f"{trial.config['label_smoothing']:.2f}",
        ]
        for i, trial in enumerate(result.trials)
    ]
    Console().print(make_table("trials, scored on validation rows (*: the best)", columns, cells))
    logger.info(
        f"read {rows}; trained on {pluralize(len(rows.texts), 'row')}, "
        f"{len(result.classifier.classes_):,} classes -> {out}"
    )
