"""The studies of language models: ag-news, language-models and key-values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from research.cli.options import (
    Resume,
    Seeds,
    output_folder,
    quiet_transformers,
    split_names,
    split_numbers,
)


def ag_news(
    protocol: Annotated[
        Literal["original", "corrected"],
        typer.Option(
            help="original: as in Ekin (2025), padding predicted too. "
            "corrected: the same as `language-models ag-news`."
        ),
    ] = "original",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs (default: the protocol's 30).")
    ] = None,
    texts: Annotated[
        int | None, typer.Option(min=2, help="Number of training texts to use (default: all).")
    ] = None,
    test_texts: Annotated[
        int | None, typer.Option(min=1, help="Number of test texts to use (default: all).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder (default: runs/ag-news-PROTOCOL).")
    ] = None,
    resume: Resume = False,
) -> None:
    """Compare next-word perplexities on AG News with Ekin (2025).

    Ekin (2025) reports 2.99 for aggregation and 3.15 for attention, padding included. The
    perplexity of the words alone is reported beside it.
    """
    out = out or Path("runs") / f"ag-news-{protocol}"
    if protocol == "corrected":
        given = {"--epochs": epochs, "--texts": texts, "--test-texts": test_texts}
        for option, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{option} {value}: expected only with --protocol original; "
                    "`python -m research study language-models ag-news` has more options"
                )
        language_models("ag-news", out=out, resume=resume)
        return
    from rich.console import Console

    from hyperagg.data import load_dataset
    from research.studies.ag_news import ag_news_original, ag_news_table

    data = load_dataset("ag-news")
    with output_folder(out):
        print(f"data: {data.source}")
        results = ag_news_original(
            data, out, epochs=epochs, texts=texts, test_texts=test_texts, resume=resume
        )
    Console().print(ag_news_table(results))
    print(f"Wrote results.json, table.md and cosines.png to {out}")


def language_models(
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="wikitext-2, or a name of `hyperagg data list`."),
    ],
    mixers: Annotated[
        str | None,
        typer.Option(help="Rows of the table, separated by commas (default: all but mamba)."),
    ] = None,
    size: Annotated[str, typer.Option(help="Model size: tiny, small, 3M or 10M.")] = "small",
    tokenizer: Annotated[str, typer.Option(help="Kind of tokenizer: bpe or words.")] = "bpe",
    vocab_size: Annotated[
        int, typer.Option(min=2, help="Vocabulary size of the tokenizer.")
    ] = 2048,
    sequence_length: Annotated[int, typer.Option(min=2, help="Tokens per packed row.")] = 256,
    tokens: Annotated[int, typer.Option(min=1, help="Number of training tokens.")] = 1_500_000,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16.")] = False,
    seeds: Seeds = 3,
    out: Annotated[
        Path | None, typer.Option(help="Output folder (default: runs/lm-DATASET).")
    ] = None,
    resume: Resume = False,
) -> None:
    """Compare mixers at equal parameters, tokens and tuning: sums, attention, hybrids, none."""
    quiet_transformers()
    from hyperagg.data import load_corpus
    from research.studies.language_mixers import MIXERS
    from research.studies.language_models import compare_language_models, language_models_table

    out = out or Path("runs") / f"lm-{dataset}"
    names = list(MIXERS) if mixers is None else split_names("--mixers", mixers)
    corpus = load_corpus(dataset)
    with output_folder(out):
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
        )
    print(language_models_table(results))
    print(f"Wrote results.json, table.md, cosines.png and models to {out}")


def key_values(
    d_model: Annotated[
        int, typer.Option(min=64, help="Dimension of the token vectors, a multiple of 64.")
    ] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Number of layers.")] = 2,
    texts: Annotated[int, typer.Option(min=1, help="Number of training texts.")] = 9_600,
    prompts: Annotated[
        int, typer.Option(min=1, help="Number of prompts of 50 lines, each asked for all names.")
    ] = 20,
    learning_rates: Annotated[
        str,
        typer.Option(help="Learning rates, separated by commas, of which each model has its best."),
    ] = "0.005,0.01",
    seeds: Seeds = 3,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/key-values"),
    resume: Resume = False,
) -> None:
    """Ask language models for the numbers of names that a prompt lists."""
    quiet_transformers()
    from research.studies.key_values import key_values_table, run_key_values

    rates = split_numbers("--learning-rates", learning_rates)
    with output_folder(out):
        results = run_key_values(
            out,
            d_model=d_model,
            layers=layers,
            texts=texts,
            prompts=prompts,
            learning_rates=rates,
            seeds=seeds,
            resume=resume,
            progress=sys.stderr.isatty(),
        )
    print(key_values_table(results))
    print(f"Wrote results.json, table.md and models to {out}")
