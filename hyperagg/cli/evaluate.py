"""hyperagg evaluate: the metrics of a model on a file with labels."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from hyperagg._common.terminal import echo
from hyperagg.cli._evaluation import print_evaluation, unknown_labels_note
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
    Threads,
    logger,
    single_file,
)
from hyperagg.multimodal import is_multimodal

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
    report: Annotated[
        Path | None,
        typer.Option(help="HTML page to write as well: all labels, the worst errors and why."),
    ] = None,
    json: Json = False,
    threads: Threads = None,
) -> None:
    """Print the scores of a model on a file with labels, and its most frequent and worst errors."""
    if is_multimodal(model):
        from hyperagg.cli import multimodal

        for option, value in {"--text": text, "--label-separator": label_separator}.items():
            if value is not None:
                raise ValueError(
                    f"{option}: the model knows the names of its columns; leave it out"
                )
        table = single_file(files, delimiter=delimiter, no_header=no_header, quoting=quoting)
        multimodal.evaluate(Path(model), table, label, format, on_error, report, json)
        return
    from hyperagg._common.atomic import atomic_write
    from hyperagg.classifier import TextClassifier
    from hyperagg.data.readers.columns import ColumnSpec, pluralize
    from hyperagg.data.readers.files import display_name, read_columns
    from hyperagg.data.readers.stream import ReadOptions

    if report is not None and report.is_dir():
        raise ValueError(f"--report {report}: is a folder; expected the name of a file")
    classifier = TextClassifier.from_pretrained(model)
    # read_columns rather than read_file, because its result knows the names of the rows.
    spec = ColumnSpec(display_name(files[0]), text, label, label_separator=label_separator)
    rows = read_columns(
        files, spec, ReadOptions(format, delimiter, not no_header, quoting, on_error)
    )
    labels = classifier.parse_labels(rows.labels or [])
    multi_label = bool(labels) and isinstance(labels[0], tuple)
    if multi_label != classifier.multi_label_:
        has, expected = ("several labels", "one") if multi_label else ("one label", "several")
        raise spec.error(f"has {has} per row, but {model} was trained with {expected}")
    evaluation = classifier.evaluation(rows.texts, labels)
    logger.info(f"read {rows}; answered {pluralize(len(rows.texts), 'row')}")
    notes = []
    if note := unknown_labels_note(evaluation):
        notes.append(note)
        logger.info(f"warning: {note}")
    if report is not None:
        from hyperagg.classifier import evaluation_page

        page = evaluation_page(
            classifier.predictor,
            evaluation,
            rows.texts,
            f"{Path(model).name} on {', '.join(Path(display_name(file)).name for file in files)}",
            row_name=rows.row_name,
            notes=notes,
        )
        with atomic_write(report) as draft:
            draft.write_text(page, "utf-8", errors="replace")
        logger.info(f"report in {report}")
    if json:
        echo(json_module.dumps({"rows": len(rows.texts), **evaluation.to_dict()}))
    else:
        print_evaluation(evaluation, rows.row_name, rows.texts)
