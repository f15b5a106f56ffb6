"""hyperagg compare: aggregation beside baselines on a data set or on files."""

from __future__ import annotations

from glob import has_magic
from pathlib import Path
from typing import Annotated

import typer

from hyperagg._common.terminal import echo
from hyperagg.cli._duration import parse_duration
from hyperagg.cli.options import (
    Delimiter,
    Format,
    Label,
    LabelSeparator,
    NoHeader,
    OnError,
    OtherColumns,
    Quiet,
    Quoting,
    Resume,
    Seeds,
    Text,
    Threads,
    check_model_folder,
    held,
    logger,
    output_folder,
)

EXAMPLE = "Example: hyperagg compare reviews.csv --text review --label stars"


def compare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name from `hyperagg data list`, or a file or pattern of texts and labels."
        ),
    ],
    baselines: Annotated[
        str | None,
        typer.Option(
            help="Models to train beside aggregation, separated by commas: words, attention, "
            "transformer, linear_svc, logistic_regression, complement_nb, nb_svm, fasttext "
            "(default: whichever of words,linear_svc,fasttext,attention are installed)."
        ),
    ] = None,
    search: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Time limit of the search for the parameters of linear models and of fastText, "
            "each, such as 30s or 5m; none for their default settings; full to search until no "
            "neighbor of the best parameters is better, which takes many minutes.",
        ),
    ] = "1m",
    text: Text = None,
    label: Label = None,
    other_columns: OtherColumns = None,
    test: Annotated[
        Path | None,
        typer.Option(help="File of test rows (default: a fifth of the rows of the file)."),
    ] = None,
    seeds: Seeds = 1,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of every model (default: the best number for each)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: runs/DATASET).")
    ] = None,
    resume: Resume = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a comparison or a model in the folder.")
    ] = False,
    format: Format = None,
    label_separator: LabelSeparator = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    on_error: OnError = "stop",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train aggregation and baselines on the same rows, and print a table of accuracy and speed.

    Writes results.json, table.md, learning_curves.png, explanations.html and the models. The
    transformer takes longest and is trained if --baselines names it.
    """

    from hyperagg._common.report import print_table
    from hyperagg._common.validation import check_choice
    from hyperagg.classifier.comparison.compare import RUNS_FILE
    from hyperagg.classifier.comparison.compare import compare as run
    from hyperagg.classifier.comparison.dataset import dataset_from_rows
    from hyperagg.classifier.comparison.models import BASELINES, SAVED
    from hyperagg.classifier.comparison.report import results_table
    from hyperagg.data import Split, load_dataset
    from hyperagg.data.readers.columns import ColumnSpec
    from hyperagg.data.readers.files import read_columns
    from hyperagg.data.readers.stream import ReadOptions

    if resume and force:
        raise ValueError("--force: begins again, and --resume continues; expected one of them")
    seconds = _search_seconds(search)
    names = None
    if baselines is not None:
        names = [name.strip() for name in baselines.split(",") if name.strip()]
        for name in names:  # before anything is downloaded
            check_choice("--baselines", name, BASELINES)
    path = Path(dataset)
    if path.suffix or path.is_file() or has_magic(dataset):
        spec = ColumnSpec("", text, label, label_separator=label_separator)
        options = ReadOptions(format, delimiter, not no_header, quoting, on_error)

        def read(file: str | Path) -> Split:
            columns = read_columns(file, spec, options)
            assert columns.labels is not None
            echo(f"{file}: {columns}")
            return Split(columns.texts, columns.labels)

        rows, measured = read(dataset), None if test is None else read(test)
        source = dataset if test is None else f"{dataset}, {test}"
        data = dataset_from_rows(path.stem, rows, measured, source=source)
    else:
        given = {
            "--text": text,
            "--label": label,
            "--test": test,
            "--format": format,
            "--label-separator": label_separator,
            "--delimiter": delimiter,
            "--no-header": no_header or None,
            "--quoting": quoting,
            "--on-error": None if on_error == "stop" else on_error,
        }
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option}: applies to a file; {dataset} is a data set name")
        data = load_dataset(dataset)
    out = out or Path("runs") / data.name
    _check_folder(out, names, resume, force)
    with output_folder(out):
        echo(f"{data.name}: {len(data.train):,} training rows, {len(data.test):,} test rows")
        echo(f"source: {data.source}")
        try:
            results = run(
                data,
                names,
                seeds,
                out,
                epochs=epochs,
                search_seconds=seconds,
                resume=resume,
                replace=False,
                callback=lambda line: echo(line, flush=True),
            )
        except KeyboardInterrupt:
            if (out / RUNS_FILE).exists():
                logger.info(f"interrupted; repeat the command with --resume to continue from {out}")
            raise
    print_table(results_table(results))
    models = ", ".join(f"models/{name}" for name in SAVED if name in results["models"])
    echo(f"results.json, table.md, explanations.html, {models} in {out}")


def _check_folder(out: Path, names: list[str] | None, resume: bool, force: bool) -> None:
    """Make sure that a comparison replaces nothing that the user wants to keep."""
    from hyperagg.classifier.comparison.compare import RUNS_FILE
    from hyperagg.classifier.comparison.models import DEFAULT_BASELINES, SAVED

    check_model_folder(out, force)
    has_runs = (out / RUNS_FILE).exists()
    if force or (resume and has_runs):
        return
    if (out / "results.json").exists():
        raise held(out, "a comparison")
    if has_runs:
        raise held(out, "an interrupted comparison", "continue it with --resume")
    # Without either file, no comparison has written the models.
    for name in SAVED:
        is_trained = name in ("aggregation", *(DEFAULT_BASELINES if names is None else names))
        if is_trained and (out / "models" / name / "config.json").exists():
            raise held(out, f"a model in models/{name}")
    if resume:
        logger.info(f"{out} holds no interrupted comparison: comparing from the beginning")


def _search_seconds(text: str) -> float | None:
    if text in ("full", "none"):
        return None if text == "full" else 0.0
    try:
        return parse_duration("--search", text)
    except ValueError as error:
        raise ValueError(f"{error}; or none, or full") from None
