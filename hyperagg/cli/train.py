"""hyperagg train: from a file of texts and labels to a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg._common.progress import activity
from hyperagg.cli.options import (
    Delimiter,
    Files,
    Force,
    Format,
    Label,
    LabelSeparator,
    NoHeader,
    OnError,
    Quiet,
    Quoting,
    Resume,
    Seed,
    Text,
    Threads,
    check_classes,
    check_training_folder,
    existing,
    keep_checkpoint,
    logger,
    output_folder,
    save_model,
    single_file,
)

EXAMPLE = "Example: hyperagg train reviews.csv --text review --label stars --out model"

# Held-out rows, of which an accuracy has a standard error of up to 7 points.
_FEW_ROWS = 50


def train(
    files: Files,
    text: Text = None,
    label: Label = None,
    number: Annotated[
        list[str] | None, typer.Option(help="Name of a column of numbers; may be repeated.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Name of a column of categories; may be repeated.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="Name of a column of image paths; may be repeated.")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option(help="Name of a column of audio paths; may be repeated.")
    ] = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="Predict a continuous target, not a label.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("model"),
    seed: Seed = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the rows (default: by their number).")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Initial learning rate (default: by rows and classes).")
    ] = None,
    d_model: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Embedding dimension (default: 64 for text alone, 128 with other columns).",
        ),
    ] = None,
    max_words: Annotated[
        int | None,
        typer.Option(min=1, help="Number of most frequent words to keep (default: 200,000)."),
    ] = None,
    max_ngrams: Annotated[
        int | None,
        typer.Option(min=0, help="Number of most frequent n-grams to keep (default: 300,000)."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="words; ngrams: also word pairs, prefixes and suffixes; chars: also all character "
            "n-grams; auto: chars where many words are rare, otherwise ngrams (default: auto)."
        ),
    ] = None,
    min_count: Annotated[
        int | None,
        typer.Option(min=1, help="Occurrences that a word needs to be kept (default: 1)."),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(
            help="Probability that is taken from the true class and spread over all (default: 0.1; "
            "0 with several labels per text)."
        ),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Table of word vectors (.vec) to initialize from.")
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Further texts without labels, in any format of FILE; may be repeated. Their "
            "words are learned first, which helps where labels are few.",
        ),
    ] = None,
    format: Format = None,
    label_separator: LabelSeparator = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    on_error: OnError = "stop",
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Weigh classes in inverse proportion to their size.")
    ] = False,
    resume: Resume = False,
    force: Force = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train a text classifier on the rows of files, or a model of several columns.

    With columns of numbers, categories, images or audio, a model of all columns is trained; any of
    them may be missing in a row.
    """
    text_only: dict[str, Any] = {
        "max_words": max_words,
        "max_ngrams": max_ngrams,
        "features": features,
        "min_count": min_count,
        "label_smoothing": label_smoothing,
    }
    shared: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "d_model": d_model}
    kinds = {"number": number, "category": category, "image": image, "audio": audio}
    if regression or any(kinds.values()):
        from hyperagg.cli import multimodal

        given = {
            **text_only,
            "vectors": vectors,
            "unlabelled": unlabelled or None,
            "label_separator": label_separator,
        }
        for name in _given(given):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: applies to a classifier of text alone; leave it out")
        table = single_file(files, delimiter=delimiter, no_header=no_header, quoting=quoting)
        multimodal.train(
            table,
            {"text": [text] if text else [], **{kind: own or [] for kind, own in kinds.items()}},
            label,
            out,
            format=format,
            on_error=on_error,
            seed=seed,
            resume=resume,
            force=force,
            regression=regression,
            balanced=balanced,
            **_given(shared),
        )
        return
    from hyperagg.classifier import TextClassifier
    from hyperagg.data.readers.columns import ColumnSpec, pluralize
    from hyperagg.data.readers.files import display_name, read_columns
    from hyperagg.data.readers.stream import ReadOptions

    classifier = TextClassifier(**_given({**shared, **text_only}))
    options = ReadOptions(format, delimiter, not no_header, quoting, on_error)
    spec = ColumnSpec("", text, label, label_separator=label_separator)
    with activity("reading"):
        rows = read_columns(files, spec, options)
        further = None
        if unlabelled:
            further = read_columns(unlabelled, ColumnSpec("", text, labeled=False), options)
    assert rows.labels is not None
    check_classes(display_name(files[0]), rows.labels)
    checkpoint = out / "checkpoint.safetensors"
    check_training_folder(out, checkpoint, resume, force)
    with output_folder(out), keep_checkpoint(out, lambda: existing(checkpoint)):
        classifier.fit(
            rows.texts,
            rows.labels,
            class_weight="balanced" if balanced else None,
            vectors=vectors,
            unlabelled=None if further is None else further.texts,
            seed=seed,
            checkpoint=checkpoint,
            resume=resume,
        )
        save_model(classifier.save_pretrained, out, checkpoint)
    history = classifier.history_
    if further is not None:
        logger.info(f"read {further} without labels")
    logger.info(
        f"read {rows}; trained on {pluralize(len(rows.texts), 'row')}, "
        f"{len(classifier.classes_):,} classes -> {out}"
    )
    if history.validation_score:
        best = history.validation_score[history.best_epoch]
        metric = "micro-F1" if classifier.multi_label_ else "accuracy"
        held_out = history.num_validation
        few = "; too few for a reliable figure" if held_out < _FEW_ROWS else ""
        logger.info(
            f"validation {metric}: {100 * best:.2f} % of {pluralize(held_out, 'held-out row')} "
            f"(epoch {history.best_epoch + 1}){few}"
        )
        _, error = history.expected_calibration_error
        logger.info(f"validation calibration error: {100 * error:.2f} %")
    else:
        logger.info("too few rows per class for a validation part: the last epoch was kept")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; for the others the estimator has its defaults."""
    return {name: value for name, value in options.items() if value is not None}
