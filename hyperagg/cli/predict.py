"""hyperagg predict: labels for the texts of a file."""

from __future__ import annotations

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
    one_document: Annotated[
        bool,
        typer.Option("--one-document", help="FILE is a single plain text, however large."),
    ] = False,
) -> None:
    """Print a label for every text, a line each, in the order of the file."""
    from hyperagg.data import read_pieces, read_texts
    from hyperagg.training.text_classifier import TextClassifier

    if one_document and (text is not None or format is not None):
        raise ValueError("--one-document: reads plain text, so --text and --format say nothing")
    classifier = TextClassifier.from_pretrained(model)
    if one_document:
        document = classifier.open()
        for piece in read_pieces(file):
            document.append(piece)
        if not len(document):
            raise ValueError(f"{file}: has no words")
        rows = document.predict_proba()[None]
    else:
        rows = classifier.predict_proba(read_texts(file, text, format=format))
    names = [str(label) for label in classifier.classes_]
    for row in rows:
        label = classifier.classes_[int(row.argmax())]
        if probabilities:
            shares = {name: round(float(share), 6) for name, share in zip(names, row)}
            print(dumps({"label": label, "probabilities": shares}, ensure_ascii=False))
        else:
            # A label with a line break would look like two answers.
            print(" ".join(str(label).splitlines()))
