"""hyperagg predict: labels for the texts of a file."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from hyperagg._common.validation import check_real
from hyperagg.cli._models import is_multimodal
from hyperagg.cli.options import Format, Model, Text

EXAMPLE = "Example: hyperagg predict model new.csv --text review > labels.txt"


def predict(
    model: Model,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A CSV, TSV, JSON lines, Parquet or fastText file; - reads standard input.",
        ),
    ],
    text: Text = None,
    format: Format = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Print JSON lines with the probability per class."),
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Print JSON lines with the K most probable labels per text."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Print JSON lines with the labels above this probability."),
    ] = None,
    label_separator: Annotated[
        str, typer.Option(help="Separator of the labels of a text that has several.")
    ] = "|",
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Read FILE as one plain text of any size."),
    ] = False,
) -> None:
    """Print one label per text, one per line, in the order of the file."""
    if is_multimodal(model):
        from hyperagg.cli import multimodal

        given = {"--text": text, "--top-k": top_k, "--threshold": threshold, "--stream": stream}
        for option, value in given.items():
            if value not in (None, False):
                raise ValueError(f"{option}: applies to a classifier of text alone; leave it out")
        multimodal.predict(Path(model), file, format, probabilities)
        return
    if stream and (text is not None or format is not None):
        raise ValueError("--stream: reads plain text, so --text and --format do not apply")
    if stream and (top_k is not None or threshold is not None):
        raise ValueError("--stream: gives one answer, so --top-k and --threshold do not apply")
    if threshold is not None:
        check_real("--threshold", threshold, 0, 1)
    from hyperagg.data import read_chunks, read_texts

    with _no_garbage_collection():
        from hyperagg.classifier import load_predictor

        predictor = load_predictor(model)
    if stream:
        document = predictor.stream()
        for chunk in read_chunks(file):
            document.append(chunk)
        if not len(document):
            raise ValueError(f"{file}: has no words")
        logits = document.logits()[None]
    else:
        texts = read_texts(file, text, format=format)
        if top_k is not None or threshold is not None:
            for own in predictor.predict(texts, top_k=top_k or len(predictor.classes_)):
                ranked = [
                    {"label": label, "probability": round(float(p), 6)}
                    for label, p in own
                    if threshold is None or p > threshold
                ]
                print(dumps(ranked, ensure_ascii=False))
            return
        logits = predictor.logits(texts)
    decoder = predictor.decoder
    names = [str(label) for label in predictor.classes_]
    key = "labels" if decoder.multi_label else "label"
    for label, row in zip(decoder.labels(logits), decoder.probabilities(logits)):
        if probabilities:
            named = {name: round(float(p), 6) for name, p in zip(names, row)}
            print(dumps({key: label, "probabilities": named}, ensure_ascii=False))
        else:
            each = label if isinstance(label, tuple) else (label,)
            # A label with a line break would look like two answers.
            print(label_separator.join(" ".join(str(one).splitlines()) for one in each))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Imports and vocabularies leave no garbage, and the search for it is a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
