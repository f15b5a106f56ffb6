"""hyperagg predict: labels for the texts of a file."""

from __future__ import annotations

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
) -> None:
    """Print a label for every text, a line each, in the order of the file."""
    from json import dumps

    from hyperagg.data import read_texts
    from hyperagg.training.text_classifier import TextClassifier

    classifier = TextClassifier.from_pretrained(model)
    texts = read_texts(file, text, format=format)
    if not probabilities:
        for label in classifier.predict(texts):
            # A label with a line break would look like two answers.
            print(" ".join(str(label).splitlines()))
        return
    names = [str(label) for label in classifier.classes_]
    for row in classifier.predict_proba(texts):
        best = int(row.argmax())
        shares = {name: round(float(share), 6) for name, share in zip(names, row)}
        print(
            dumps({"label": classifier.classes_[best], "probabilities": shares}, ensure_ascii=False)
        )
