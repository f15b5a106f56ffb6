"""hyperagg study: the source's tables, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hyperagg.cli.options import Resume, Seeds, output_folder, say

app = typer.Typer(
    no_args_is_help=True,
    help="Reproduce the source's tables.",
    epilog="Example: hyperagg study reuters --protocol source",
)


@app.callback()
def group() -> None:
    """Studies are a group of commands."""


@app.command(epilog="Example: hyperagg study reuters --protocol honest --seeds 5")
def reuters(
    protocol: Annotated[
        Literal["source", "honest"],
        typer.Option(help="As in the source to the letter, or padding masked and no test peeking."),
    ] = "honest",
    seeds: Seeds = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Other than the protocol's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Else runs/reuters-PROTOCOL.")] = None,
    resume: Resume = False,
) -> None:
    """Reuters, 46 topics: aggregation and attention, the source's 78.63 / 77.96 % beside ours."""
    from rich.console import Console

    from hyperagg.data import load_dataset
    from hyperagg.studies.reuters import reuters as run
    from hyperagg.studies.reuters import reuters_table

    out = out or Path("runs") / f"reuters-{protocol}"
    data = load_dataset("reuters")
    with output_folder(out):
        print(f"source: {data.source}")
        try:
            results = run(data, protocol, seeds, out, epochs=epochs, resume=resume, say=print)
        except KeyboardInterrupt:
            if (out / "runs.json").exists():
                say(f"stopped; what is measured is in {out}, go on with this command and --resume")
            raise
    Console().print(reuters_table(results))
    print(f"results.json in {out}")


@app.command(
    "ag-news", epilog="Example: hyperagg study ag-news --protocol source --texts 6000 --epochs 5"
)
def ag_news(
    protocol: Annotated[
        Literal["source", "honest"],
        typer.Option(help="As in the source to the letter, padding foretold too, or honest."),
    ] = "source",
    epochs: Annotated[int | None, typer.Option(min=1, help="Other than the protocol's.")] = None,
    texts: Annotated[
        int | None, typer.Option(min=2, help="Learn so many training texts, not all.")
    ] = None,
    test_texts: Annotated[
        int | None, typer.Option(min=1, help="Measure on so many test texts, not all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Else runs/ag-news-PROTOCOL.")] = None,
    resume: Resume = False,
) -> None:
    """AG News, the next word: the source's perplexities of 2.99 / 3.15 beside ours, and both beside
    those of the words alone."""
    if protocol == "honest":
        raise ValueError("--protocol honest: is not there yet; give --protocol source")
    from rich.console import Console

    from hyperagg.data import load_dataset
    from hyperagg.studies.ag_news import ag_news_source, ag_news_table

    out = out or Path("runs") / f"ag-news-{protocol}"
    data = load_dataset("ag-news")
    with output_folder(out):
        print(f"source: {data.source}")
        try:
            results = ag_news_source(
                data,
                out,
                epochs=epochs,
                texts=texts,
                test_texts=test_texts,
                resume=resume,
                say=print,
            )
        except KeyboardInterrupt:
            if any(out.glob("models/*.safetensors")):
                say(f"stopped; whole epochs are in {out}, go on with this command and --resume")
            raise
    Console().print(ag_news_table(results))
    print(f"results.json, table.md and cosines.png in {out}")


@app.command(epilog="Example: hyperagg study accuracy --sets r8,mr --seeds 5")
def accuracy(
    sets: Annotated[
        str, typer.Option(help="Names that `hyperagg data list` shows, separated by commas.")
    ] = "r8,r52,20ng,reuters,ag-news",
    rivals: Annotated[str, typer.Option(help="Separated by commas.")] = "tfidf,fasttext",
    seeds: Seeds = 5,
    baseline_seeds: Annotated[
        int | None, typer.Option(min=1, help="The same for fastText, which takes long.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for a folder a set, and the table.")] = Path(
        "runs/accuracy"
    ),
    resume: Resume = False,
) -> None:
    """The classifier as it comes beside tuned fastText and TF-IDF + LinearSVC, on many sets."""
    from hyperagg.data import load_dataset
    from hyperagg.studies.accuracy import accuracy_table, write_accuracy
    from hyperagg.studies.compare import RIVALS, compare

    names = [name.strip() for name in rivals.split(",") if name.strip()]
    for name in names:
        if name not in RIVALS:
            raise ValueError(f"--rivals {name}: there are {', '.join(RIVALS)}")
    datasets = [load_dataset(name.strip()) for name in sets.split(",") if name.strip()]
    if not datasets:
        raise ValueError("--sets: name at least one")
    with output_folder(out):
        results = {}
        for data in datasets:
            print(f"{data.name}: {len(data.train.texts):,} train, {len(data.test.texts):,} test")
            results[data.name] = compare(
                data,
                names,
                seeds,
                out / data.name,
                baseline_seeds=baseline_seeds,
                resume=resume,
                say=print,
            )
        write_accuracy(out, results)
    print(accuracy_table(results))
    print(f"results.json and table.md in {out}")


@app.command(epilog="Example: hyperagg study deletion --set r52 --texts 500")
def deletion(
    set: Annotated[str, typer.Option(help="A name that `hyperagg data list` shows.")] = "r52",
    texts: Annotated[int, typer.Option(min=1, help="How many test texts to explain.")] = 500,
    seeds: Seeds = 5,
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("runs/deletion"),
    resume: Resume = False,
) -> None:
    """Take out the words that an explanation names, and see how far the answer's probability falls;
    beside integrated gradients, occlusion and chance."""
    from rich.console import Console

    from hyperagg.data import load_dataset
    from hyperagg.studies.deletion import deletion as run
    from hyperagg.studies.deletion import deletion_tables

    data = load_dataset(set)
    with output_folder(out):
        results = run(data, texts, seeds, out, resume=resume, say=print)
    for table in deletion_tables(results):
        Console().print(table)
    print(f"results.json, table.md and deletion.png in {out}")
