"""hyperagg evaluate: the metrics of a model on a file with labels."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from hyperagg.cli._models import is_multimodal
from hyperagg.cli.options import (
    Delimiter,
    Files,
    Format,
    Json,
    Label,
    LabelSeparator,
    Model,
    NoHeader,
    OnError,
    Quoting,
    Text,
    logger,
    single_file,
)

EXAMPLE = "Example: hyperagg evaluate model test.csv --text review --label stars"


def evaluate(
    model: Model,
    files: Files,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    label_separator: LabelSeparator = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    on_error: OnError = "stop",
    json: Json = False,
) -> None:
    """Print the accuracy, macro-F1 and calibration error of a model on a file with labels."""
    if is_multimodal(model):
        from hyperagg.cli import multimodal

        for option, value in {"--text": text, "--label-separator": label_separator}.items():
            if value is not None:
                raise ValueError(
                    f"{option}: the model knows the names of its columns; leave it out"
                )
        table = single_file(
            files,
            delimiter=delimiter,
            no_header=no_header,
            quoting=quoting,
            on_error=on_error,
        )
        multimodal.evaluate(Path(model), table, label, format, json)
        return
    from hyperagg.classifier import TextClassifier
    from hyperagg.data.readers.columns import ColumnSpec, join_quoted, pluralize
    from hyperagg.data.readers.errors import DataError, quote
    from hyperagg.data.readers.files import display_name, read_columns
    from hyperagg.data.readers.stream import ReadOptions

    classifier = TextClassifier.from_pretrained(model)
    # read_columns rather than read_file, because its result knows the names of the rows.
    spec = ColumnSpec(display_name(files[0]), text, label, label_separator=label_separator)
    rows = read_columns(
        files, spec, ReadOptions(format, delimiter, not no_header, quoting, on_error)
    )
    labels = classifier.parse_labels(rows.labels or [])
    known = set(classifier.classes_)
    multi_label = bool(labels) and isinstance(labels[0], tuple)
    if multi_label != classifier.multi_label_:
        has, expected = ("several labels", "one") if multi_label else ("one label", "several")
        raise spec.error(f"has {has} per row, but {model} was trained with {expected}")
    for i, own in enumerate(labels):
        for one in own if isinstance(own, tuple) else (own,):
            if one not in known:
                raise DataError(
                    f"{rows.row_name(i)}: label {quote(str(one))} did not occur in training; "
                    f"expected one of {join_quoted([str(name) for name in classifier.classes_])}"
                )
    scores = classifier.evaluate(rows.texts, labels)
    logger.info(f"read {rows}; answered {pluralize(len(rows.texts), 'row')}")
    if json:
        print(json_module.dumps({"rows": len(rows.texts), **scores}))
        return
    print(f"{'rows':26}  {len(rows.texts):,}")
    for name, score in scores.items():
        print(f"{name.replace('_f1', '-F1').replace('_', ' '):26}  {100 * score:.2f} %")
