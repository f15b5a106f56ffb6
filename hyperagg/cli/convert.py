"""hyperagg convert: a fastText model as a hyperagg model that gives the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import Force, check_model_folder, logger, output_folder, save_model

EXAMPLE = "Example: hyperagg convert model.bin --out model"


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The .bin or .ftz file of a supervised fastText model."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("model"),
    force: Force = False,
) -> None:
    """Convert a supervised fastText model; predict, evaluate and explain take the result."""
    from hyperagg.classifier import TextClassifier

    check_model_folder(out, force)
    with output_folder(out):
        classifier = TextClassifier.from_fasttext(file)
        save_model(classifier.save_pretrained, out)
    logger.info(
        f"{len(classifier.tokenizer_):,} tokens, {len(classifier.classes_):,} classes -> {out}"
    )
