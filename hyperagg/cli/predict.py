"""hyperagg predict: labels for the texts of a file."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from typing import Annotated

import typer

from hyperagg.cli.options import File, Format, Model, Text

EXAMPLE = "Example: hyperagg predict model new.csv --text review > labels.txt"


def predict(
    model: Model,
    file: File,
    text: Text = None,
    format: Format = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Print JSON lines with every class's probability."),
    ] = False,
    label_separator: Annotated[
        str, typer.Option(help="What to print between the labels of a text that has several.")
    ] = "|",
    one_document: Annotated[
        bool,
        typer.Option("--stream", help="FILE is a single plain text, however large."),
    ] = False,
) -> None:
    """Print a label for every text, a line each, in the order of the file."""
    from hyperagg.data import read_chunks, read_texts
    from hyperagg.multimodal.serialization import is_multimodal

    if is_multimodal(model):
        from hyperagg.cli import multimodal

        if one_document or text is not None:
            option = "--stream" if one_document else "--text"
            raise ValueError(f"{option}: the model knows its columns by name; leave it out")
        multimodal.predict(model, file, format, probabilities)
        return
    if one_document and (text is not None or format is not None):
        raise ValueError("--stream: reads plain text, so --text and --format say nothing")
    with _nothing_collected():
        from hyperagg.classifier.predictor import load_predictor

        predictor = load_predictor(model)
    if one_document:
        document = predictor.stream()
        for piece in read_chunks(file):
            document.append(piece)
        if not len(document):
            raise ValueError(f"{file}: has no words")
        logits = document.logits()[None]
    else:
        logits = predictor.logits(read_texts(file, text, format=format))
    decoder = predictor.decoder
    names = [str(label) for label in predictor.classes_]
    key = "labels" if decoder.multi_label else "label"
    for label, row in zip(decoder.labels(logits), decoder.probabilities(logits)):
        if probabilities:
            shares = {name: round(float(share), 6) for name, share in zip(names, row)}
            print(dumps({key: label, "probabilities": shares}, ensure_ascii=False))
        else:
            each = label if isinstance(label, tuple) else (label,)
            # A label with a line break would look like two answers.
            print(label_separator.join(" ".join(str(one).splitlines()) for one in each))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Imports and vocabularies leave no garbage, and looking for it is a tenth of the start-up."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
