"""hyperagg tune: search hyperparameters for a file of texts and labels, and save the best model."""

from __future__ import annotations

import json as json_module
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg._common.terminal import echo
from hyperagg.cli.options import (
    TUNING_FILE,
    Delimiter,
    Files,
    Force,
    Format,
    Json,
    Label,
    LabelSeparator,
    NoHeader,
    OnError,
    OtherColumns,
    Quiet,
    Quoting,
    Text,
    Threads,
    check_classes,
    check_model_folder,
    logger,
    output_folder,
    save_model,
)

EXAMPLE = (
    "Example: hyperagg tune reviews.csv --text review --label stars --time-limit 300 --out model"
)


def tune(
    files: Files,
    time_limit: Annotated[
        float,
        typer.Option(help="Seconds for the search, the comparison and the final training."),
    ],
    text: Text = None,
    label: Label = None,
    other_columns: OtherColumns = None,
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
    json: Json = False,
    format: Format = None,
    label_separator: LabelSeparator = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    on_error: OnError = "stop",
    force: Force = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Search hyperparameters within a time limit, and train on the files with the best.

    The best are compared with the default on held-out rows that the search did not use. The default
    is kept unless they are better there by more than one standard error.
    """

    from hyperagg._common.atomic import atomic_write
    from hyperagg._common.report import print_table
    from hyperagg._common.validation import check_real
    from hyperagg.classifier.tuning.report import to_json, trials_table
    from hyperagg.classifier.tuning.search import import_optuna
    from hyperagg.classifier.tuning.search import tune as run
    from hyperagg.data.readers.columns import ColumnSpec, pluralize
    from hyperagg.data.readers.files import display_name, read_columns
    from hyperagg.data.readers.stream import ReadOptions

    # Before files are read, which may take minutes.
    import_optuna()
    check_real("--time-limit", time_limit, 0, open_minimum=True)
    if max_size_mb is not None:
        check_real("--max-size-mb", max_size_mb, 0, open_minimum=True)
    check_model_folder(out, force)
    spec = ColumnSpec("", text, label, label_separator=label_separator)
    rows = read_columns(
        files, spec, ReadOptions(format, delimiter, not no_header, quoting, on_error)
    )
    assert rows.labels is not None
    check_classes(display_name(files[0]), rows.labels)
    options = {
        "text": text,
        "label": label,
        "seed": seed or None,
        "format": format,
        "label_separator": label_separator,
        "delimiter": delimiter,
        "no_header": no_header or None,
        "quoting": quoting,
        "on_error": None if on_error == "stop" else on_error,
    }
    with output_folder(out):
        result = run(
            rows.texts,
            rows.labels,
            time_limit=time_limit,
            trials=trials,
            max_size_mb=max_size_mb,
            seed=seed,
        )
        command = _train_command(files, options | result.arguments)
        found = {**to_json(result), "command": command}
        save_model(result.classifier.save_pretrained, out)
        with atomic_write(out / TUNING_FILE) as draft:
            draft.write_text(json_module.dumps(found, indent=2) + "\n", "utf-8")
    if json:
        echo(json_module.dumps(found))
    else:
        print_table(trials_table(result))
        echo(f"\n{result.summary()}\n\nto train the same model: {command}")
        if result.selected_trial is not result.best_trial:
            theirs = _train_command(files, options | result.best_trial.config)
            echo(f"to train trial {found['best_trial']} instead: {theirs}")
        echo(
            "the scores above served to choose; for the accuracy on new rows: hyperagg evaluate "
            f"{shlex.quote(str(out))} FILE, with rows that are not in these files"
        )
    logger.info(
        f"read {rows}; trained on {pluralize(len(rows.texts), 'row')}, "
        f"{len(result.classifier.classes_):,} classes -> {out}; all trials in {out / TUNING_FILE}"
    )


def _train_command(files: Sequence[str], options: Mapping[str, Any]) -> str:
    """The command that trains with these options."""
    words = ["hyperagg", "train", *files]
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join(words)
