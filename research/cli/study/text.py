"""The studies of text classification: reuters, accuracy, learning curves and deletion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from research.cli.options import Resume, Seeds, output_folder, split_integers, split_names


def reuters(
    protocol: Annotated[
        Literal["original", "corrected"],
        typer.Option(
            help="original: as in Ekin (2025), padding and test-set selection included. "
            "corrected: padding masked, epochs selected on held-out training rows."
        ),
    ] = "corrected",
    seeds: Seeds = 5,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs (default: the protocol's).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder (default: runs/reuters-PROTOCOL).")
    ] = None,
    resume: Resume = False,
) -> None:
    """Compare aggregation and attention on Reuters (46 topics) with Ekin (2025).

    Ekin (2025) reports 78.63 % for aggregation and 77.96 % for attention.
    """
    from rich.console import Console

    from hyperagg.data import load_dataset
    from research.studies.reuters import reuters as run
    from research.studies.reuters import reuters_table

    out = out or Path("runs") / f"reuters-{protocol}"
    data = load_dataset("reuters")
    with output_folder(out):
        print(f"data: {data.source}")
        results = run(data, protocol, seeds, out, epochs=epochs, resume=resume)
    Console().print(reuters_table(results))
    print(f"Wrote results.json to {out}")


def accuracy(
    datasets: Annotated[
        str, typer.Option(help="Names separated by commas (default: the ten development sets).")
    ] = "",
    baselines: Annotated[
        str, typer.Option(help="Baselines, separated by commas (default: the five external ones).")
    ] = "",
    seeds: Seeds = 5,
    aggregation: Annotated[
        bool, typer.Option(help="Train aggregation, or only the baselines.")
    ] = True,
    autotune_seconds: Annotated[
        int, typer.Option(min=0, help="Duration of fastText's own search, which is one more start.")
    ] = 60,
    limit_rows: Annotated[
        int | None, typer.Option(min=1, help="Largest number of rows of either split.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of data sets at a time, one core each.")
    ] = 1,
    out: Annotated[
        Path, typer.Option(help="Output folder, with one subfolder per data set.")
    ] = Path("runs/accuracy"),
    resume: Resume = False,
) -> None:
    """Compare the default classifier with baselines at their best on many data sets.

    The parameters of every baseline are selected on held-out training rows: all of them with 3,000
    training rows, and those that depend on the number of rows again with up to 20,000, until no
    neighbor of the best is better. Each data set has a log, log.txt, with a line per candidate.
    results.json and table.md have the data sets that are finished.
    """
    from hyperagg.classifier.comparison.models import BASELINES, EXTERNAL
    from research.data.text_sets import DEVELOPMENT_SETS
    from research.studies.accuracy import accuracy_table, measure_accuracy

    chosen = split_names("--baselines", baselines) if baselines else list(EXTERNAL)
    for name in chosen:
        if name not in BASELINES:
            expected = ", ".join(BASELINES)
            raise ValueError(f"--baselines {name}: expected one of {expected}")
    names = split_names("--datasets", datasets) if datasets else list(DEVELOPMENT_SETS)
    with output_folder(out):
        results = measure_accuracy(
            names,
            chosen,
            seeds,
            out,
            aggregation=aggregation,
            autotune_seconds=autotune_seconds,
            limit=limit_rows,
            jobs=jobs,
            resume=resume,
        )
    print(accuracy_table(results))
    print(f"Wrote results.json and table.md to {out}")


def learning_curves(
    datasets: Annotated[
        str, typer.Option(help="Names separated by commas (default: the ten development sets).")
    ] = "",
    sizes: Annotated[
        str, typer.Option(help="Numbers of labelled texts, separated by commas.")
    ] = "30,100,300,1000,3000",
    draws: Annotated[int, typer.Option(min=1, help="Number of draws per size.")] = 10,
    methods: Annotated[
        str, typer.Option(help="Classifiers, separated by commas (default: all six).")
    ] = "",
    test_rows: Annotated[int, typer.Option(min=1, help="Number of test rows.")] = 3000,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of data sets at a time, one core each.")
    ] = 1,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/learning-curves"),
    resume: Resume = False,
) -> None:
    """Measure test accuracy by number of labelled texts, beside baselines.

    Each data set has a log, NAME.log, with the time that is left.
    """
    from research.data.text_sets import DEVELOPMENT_SETS
    from research.studies.learning_curves import METHODS, curve_table, measure_curves

    chosen = split_names("--methods", methods) if methods else list(METHODS)
    for name in chosen:
        if name not in METHODS:
            raise ValueError(f"--methods {name}: expected one of {', '.join(METHODS)}")
    numbers = split_integers("--sizes", sizes)
    names = split_names("--datasets", datasets) if datasets else list(DEVELOPMENT_SETS)
    with output_folder(out):
        results = measure_curves(
            names, numbers, draws, chosen, out, test_rows=test_rows, jobs=jobs, resume=resume
        )
    print(curve_table(results))
    print(f"Wrote results.json, table.md and curves.png to {out}")


def unlabelled(
    datasets: Annotated[
        str, typer.Option(help="Names separated by commas (default: five development sets).")
    ] = "",
    sizes: Annotated[
        str, typer.Option(help="Numbers of labelled texts, separated by commas.")
    ] = "100,300,1000,3000",
    draws: Annotated[int, typer.Option(min=1, help="Number of draws per size.")] = 3,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of data sets at a time, one core each.")
    ] = 1,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/unlabelled"),
    resume: Resume = False,
) -> None:
    """Measure what texts without labels add to few that have them."""
    from research.studies.unlabelled import DATASETS, measure_gains, unlabelled_table

    numbers = split_integers("--sizes", sizes)
    names = split_names("--datasets", datasets) if datasets else list(DATASETS)
    with output_folder(out):
        results = measure_gains(names, numbers, draws, out, jobs=jobs, resume=resume)
    print(unlabelled_table(results))
    print(f"Wrote results.json and table.md to {out}")


def tuning(
    datasets: Annotated[
        str, typer.Option(help="Names separated by commas (default: five development sets).")
    ] = "",
    rows: Annotated[int, typer.Option(min=1, help="Largest number of training rows.")] = 3000,
    trials: Annotated[int, typer.Option(min=2, help="Number of trials per search.")] = 20,
    seeds: Seeds = 3,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of data sets at a time, one core each.")
    ] = 1,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/tuning"),
    resume: Resume = False,
) -> None:
    """Search hyperparameters, and measure on test rows what was selected and what was not."""
    from research.studies.tuning import DATASETS, measure_choices, tuning_table

    names = split_names("--datasets", datasets) if datasets else list(DATASETS)
    with output_folder(out):
        results = measure_choices(names, rows, trials, seeds, out, jobs=jobs, resume=resume)
    print(tuning_table(results))
    print(f"Wrote results.json and table.md to {out}")


def deletion(
    dataset: Annotated[str, typer.Option(help="A name listed by `hyperagg data list`.")] = "r52",
    texts: Annotated[int, typer.Option(min=1, help="Number of test texts to explain.")] = 500,
    seeds: Seeds = 5,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/deletion"),
    resume: Resume = False,
) -> None:
    """Delete the words that an explanation ranks first and measure the drop in probability.

    The explanations of the classifier are compared with integrated gradients, gradient × input,
    occlusion and random words.
    """
    from rich.console import Console

    from hyperagg.data import load_dataset
    from research.studies.deletion import deletion as run
    from research.studies.deletion import deletion_tables

    data = load_dataset(dataset)
    with output_folder(out):
        results = run(data, texts, seeds, out, resume=resume)
    for table in deletion_tables(results):
        Console().print(table)
    print(f"Wrote results.json, table.md and deletion.png to {out}")
