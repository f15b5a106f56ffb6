"""hyperagg train: from a file of texts and labels to a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import (
    File,
    Format,
    Label,
    LabelSeparator,
    Resume,
    Text,
    output_folder,
    say,
)

EXAMPLE = "Example: hyperagg train reviews.csv --text review --label stars --out model"


def train(
    file: File,
    text: Text = None,
    label: Label = None,
    number: Annotated[list[str] | None, typer.Option(help="Column of numbers; any times.")] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Column of categories; any times.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="Column of paths of pictures; any times.")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option(help="Column of paths of sounds; any times.")
    ] = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="The labels are numbers to be foretold.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("model"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At the start.")] = None,
    d_model: Annotated[
        int | None, typer.Option(min=1, help="Dimension; else 64, of more than texts 128.")
    ] = None,
    max_words: Annotated[int, typer.Option(min=1, help="The most used words are kept.")] = 200_000,
    max_ngrams: Annotated[
        int, typer.Option(min=0, help="And as many pairs, beginnings and endings of words.")
    ] = 300_000,
    min_count: Annotated[int, typer.Option(min=1, help="Uses below which none is kept.")] = 1,
    vectors: Annotated[
        Path | None, typer.Option(help="Table of word vectors (.vec) to start from.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="4 at most; the weights do not depend on it.")
    ] = None,
    format: Format = None,
    label_separator: LabelSeparator = None,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Every class counts the same, however few its rows.")
    ] = False,
    resume: Resume = False,
) -> None:
    """Train a text classifier on a file; with columns of numbers, categories, pictures or sounds a
    model of them all, any of which may be missing in a row."""
    kinds = {"number": number, "category": category, "image": image, "audio": audio}
    if regression or any(kinds.values()):
        from hyperagg.cli import multimodal

        given = {
            "--vectors": vectors is not None,
            "--balanced": balanced,
            "--label-separator": label_separator is not None,
            "--threads": threads is not None,
            "--max-words": max_words != 200_000,
            "--max-ngrams": max_ngrams != 300_000,
            "--min-count": min_count != 1,
        }
        for option in (option for option, is_given in given.items() if is_given):
            raise ValueError(f"{option}: is for a classifier of texts alone; leave it out")
        settings = {"learning_rate": learning_rate, "d_model": d_model}
        multimodal.train(
            file,
            {"text": [text] if text else [], **{kind: own or [] for kind, own in kinds.items()}},
            label,
            out,
            format=format,
            seed=seed,
            resume=resume,
            regression=regression,
            epochs=epochs,
            **{name: value for name, value in settings.items() if value is not None},
        )
        return
    from hyperagg.classifier.estimator import TextClassifier
    from hyperagg.classifier.training.labels import unique_labels
    from hyperagg.data import read_file
    from hyperagg.data.readers.files import display_name

    rows = read_file(file, text, label, format=format, label_separator=label_separator)
    classes = unique_labels(rows.labels)
    if len(classes) < 2:
        only = f"all labels are {classes[0]!r}" if classes else "no row has a label"
        raise ValueError(f"{display_name(file)}: {only}; a classifier needs at least two classes")
    classifier = TextClassifier(
        epochs=epochs,
        learning_rate=learning_rate,
        d_model=d_model or 64,
        max_words=max_words,
        max_ngrams=max_ngrams,
        min_count=min_count,
        threads=threads,
    )
    checkpoint = out / "checkpoint.safetensors"
    if resume and not checkpoint.exists():
        say(f"no interrupted training in {out}: starting from the beginning")
    with output_folder(out):
        try:
            classifier.fit(
                rows.texts,
                rows.labels,
                class_weight="balanced" if balanced else None,
                vectors=vectors,
                seed=seed,
                checkpoint=checkpoint,
                resume=resume,
            )
        except KeyboardInterrupt:
            if checkpoint.exists():
                say(f"stopped; the state is in {out}, go on with the same command and --resume")
            raise
        classifier.save_pretrained(out)
    history = classifier.history_
    say(f"{len(rows.texts):,} rows, {len(classifier.classes_)} classes -> {out}")
    if history.validation_score:
        best = history.validation_score[history.best_epoch]
        measure = "micro-F1" if classifier.multi_label_ else "accuracy"
        say(f"{measure} on held-out rows: {100 * best:.2f} % (epoch {history.best_epoch + 1})")
        before, after = history.expected_calibration_error
        say(
            f"calibration error there: {100 * before:.2f} %, after dividing by a temperature of "
            f"{history.temperature:.2f}: {100 * after:.2f} %"
        )
    else:
        say("too few rows of each class to hold some out: the last epoch was kept")
