"""python -m research study: the source's tables, by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from hyperagg.cli.options import Resume, Seeds, output_folder, say, tell

app = typer.Typer(
    no_args_is_help=True,
    help="Reproduce the source's tables.",
    epilog="Example: python -m research study reuters --protocol source",
)


@app.callback()
def group() -> None:
    """Studies are a group of commands."""


@app.command(epilog="Example: python -m research study reuters --protocol honest --seeds 5")
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
    from research.studies.reuters import reuters as run
    from research.studies.reuters import reuters_table

    out = out or Path("runs") / f"reuters-{protocol}"
    data = load_dataset("reuters")
    with output_folder(out):
        print(f"source: {data.source}")
        try:
            results = run(data, protocol, seeds, out, epochs=epochs, resume=resume, say=tell)
        except KeyboardInterrupt:
            if (out / "runs.json").exists():
                say(f"stopped; what is measured is in {out}, go on with this command and --resume")
            raise
    Console().print(reuters_table(results))
    print(f"results.json in {out}")


@app.command(
    "ag-news",
    epilog="Example: python -m research study ag-news --protocol source --texts 6000 --epochs 5",
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
    out = out or Path("runs") / f"ag-news-{protocol}"
    if protocol == "honest":
        given = {"--epochs": epochs, "--texts": texts, "--test-texts": test_texts}
        for option, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{option}: is for --protocol source; `python -m research study language-models ag-news` "
                    "has options for the honest one"
                )
        language_models("ag-news", out=out, resume=resume)
        return
    from rich.console import Console

    from hyperagg.data import load_dataset
    from research.studies.ag_news import ag_news_source, ag_news_table

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
                say=tell,
            )
        except KeyboardInterrupt:
            if any(out.glob("models/*.safetensors")):
                say(f"stopped; whole epochs are in {out}, go on with this command and --resume")
            raise
    Console().print(ag_news_table(results))
    print(f"results.json, table.md and cosines.png in {out}")


@app.command(
    "language-models",
    epilog="Example: python -m research study language-models wikitext-2 --size small --seeds 1",
)
def language_models(
    set: Annotated[
        str, typer.Argument(metavar="DATA", help="wikitext-2, or a name of `hyperagg data list`.")
    ],
    mixers: Annotated[
        str | None, typer.Option(help="Rows of the table, separated by commas; else all but mamba.")
    ] = None,
    size: Annotated[str, typer.Option(help="tiny, small, 3M or 10M.")] = "small",
    tokenizer: Annotated[str, typer.Option(help="bpe or words.")] = "bpe",
    vocab_size: Annotated[int, typer.Option(min=2, help="Of the tokenizer.")] = 2048,
    sequence_length: Annotated[int, typer.Option(min=2, help="Tokens of a packed row.")] = 256,
    tokens: Annotated[int, typer.Option(min=1, help="To train on.")] = 1_500_000,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16.")] = False,
    seeds: Seeds = 3,
    out: Annotated[Path | None, typer.Option(help="Else runs/lm-DATA.")] = None,
    resume: Resume = False,
) -> None:
    """Mixers at equal parameters, tokens and tuning: the sums, attention, both, and none."""
    from hyperagg.cli.lm import quiet

    quiet()
    from hyperagg.data import load_corpus
    from research.studies.language_mixers import MIXERS
    from research.studies.language_models import compare_language_models, language_models_table

    out = out or Path("runs") / f"lm-{set}"
    names = [name.strip() for name in mixers.split(",")] if mixers else list(MIXERS)
    corpus = load_corpus(set)
    with output_folder(out):
        try:
            results = compare_language_models(
                corpus,
                out,
                size=size,
                mixers=names,
                tokenizer=tokenizer,
                vocab_size=vocab_size,
                sequence_length=sequence_length,
                tokens=tokens,
                bf16=bf16,
                seeds=seeds,
                resume=resume,
                progress=sys.stderr.isatty(),
                say=tell,
            )
        except KeyboardInterrupt:
            if (out / "runs.json").exists():
                say(f"stopped; what is measured is in {out}, go on with this command and --resume")
            raise
    print(language_models_table(results))
    print(f"results.json, table.md, cosines.png and models in {out}")


@app.command(epilog="Example: python -m research study accuracy --sets r8,mr --seeds 5")
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
    from hyperagg.classifier.compare import BASELINES, compare
    from hyperagg.data import load_dataset
    from research.studies.accuracy import accuracy_table, write_accuracy

    names = [name.strip() for name in rivals.split(",") if name.strip()]
    for name in names:
        if name not in BASELINES:
            raise ValueError(f"--rivals {name}: there are {', '.join(BASELINES)}")
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
                callback=tell,
            )
        write_accuracy(out, results)
    print(accuracy_table(results))
    print(f"results.json and table.md in {out}")


@app.command(epilog="Example: python -m research study deletion --set r52 --texts 500")
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
    from research.studies.deletion import deletion as run
    from research.studies.deletion import deletion_tables

    data = load_dataset(set)
    with output_folder(out):
        results = run(data, texts, seeds, out, resume=resume, say=tell)
    for table in deletion_tables(results):
        Console().print(table)
    print(f"results.json, table.md and deletion.png in {out}")
