"""hyperagg evaluate: how well a model does on a file with labels."""

from __future__ import annotations

from typing import Annotated

import typer

from hyperagg.cli.options import File, Format, Label, Model, Text

EXAMPLE = "Example: hyperagg evaluate model test.csv --text review --label stars"


def evaluate(
    model: Model,
    file: File,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print accuracy and macro-F1 of a model on a file with labels."""
    from hyperagg.data.columns import Wanted, listed
    from hyperagg.data.errors import quote
    from hyperagg.data.files import display_name, read_columns
    from hyperagg.training.text_classifier import TextClassifier

    classifier = TextClassifier.from_pretrained(model)
    # Rather than read_file, because this knows what the file's rows are called.
    wanted = Wanted(display_name(file), text, label)
    rows = read_columns(file, wanted, format)
    labels = classifier.parse_labels(rows.labels or [])
    known = set(classifier.classes_)
    for i, one in enumerate(labels):
        if one not in known:
            raise wanted.error(
                f"{rows.place(i)}: label {quote(one)} was not there in training; the labels are "
                f"{listed([str(name) for name in classifier.classes_])}"
            )
    scores = classifier.evaluate(rows.texts, labels)
    if json:
        from json import dumps

        print(dumps({"rows": len(rows.texts), **scores}))
        return
    print(f"rows      {len(rows.texts):,}")
    print(f"accuracy  {100 * scores['accuracy']:.2f} %")
    print(f"macro-F1  {100 * scores['macro_f1']:.2f} %")
