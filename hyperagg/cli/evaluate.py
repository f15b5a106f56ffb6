"""hyperagg evaluate: how well a model does on a file with labels."""

from __future__ import annotations

from typing import Annotated

import typer

from hyperagg.cli.options import File, Format, Label, LabelSeparator, Model, Text

EXAMPLE = "Example: hyperagg evaluate model test.csv --text review --label stars"


def evaluate(
    model: Model,
    file: File,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    label_separator: LabelSeparator = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print accuracy, macro-F1 and calibration error of a model on a file with labels."""
    from hyperagg.multimodal.serialization import is_multimodal

    if is_multimodal(model):
        from hyperagg.cli import multimodal

        for option, value in {"--text": text, "--label-separator": label_separator}.items():
            if value is not None:
                raise ValueError(f"{option}: the model knows its columns by name; leave it out")
        multimodal.evaluate(model, file, label, format, json)
        return
    from hyperagg.classifier.estimator import TextClassifier
    from hyperagg.classifier.training.labels import is_multi_label
    from hyperagg.data.readers.columns import ColumnSpec, join_quoted
    from hyperagg.data.readers.errors import quote
    from hyperagg.data.readers.files import display_name, read_columns

    classifier = TextClassifier.from_pretrained(model)
    # Rather than read_file, because this knows what the file's rows are called.
    spec = ColumnSpec(display_name(file), text, label, label_separator=label_separator)
    rows = read_columns(file, spec, format)
    labels = classifier.parse_labels(rows.labels or [])
    known = set(classifier.classes_)
    if is_multi_label(labels) != classifier.multi_label_:
        has, learned = "one label", "several"
        if is_multi_label(labels):
            has, learned = learned, has
        raise spec.error(f"has {has} a row, but {model} learned {learned}")
    for i, own in enumerate(labels):
        for one in own if isinstance(own, tuple) else (own,):
            if one not in known:
                raise spec.error(
                    f"{rows.row_name(i)}: label {quote(str(one))} was not there in training; the "
                    f"labels are {join_quoted([str(name) for name in classifier.classes_])}"
                )
    scores = classifier.evaluate(rows.texts, labels)
    if json:
        from json import dumps

        print(dumps({"rows": len(rows.texts), **scores}))
        return
    print(f"{'rows':17}  {len(rows.texts):,}")
    for name, score in scores.items():
        print(f"{name.replace('_f1', '-F1').replace('_', ' '):17}  {100 * score:.2f} %")
