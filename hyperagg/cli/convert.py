"""hyperagg convert: a fastText model becomes one of ours, which answers alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import output_folder, say

EXAMPLE = "Example: hyperagg convert model.bin --out model"


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A supervised model's .bin.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("model"),
) -> None:
    """Turn a supervised fastText model into a folder that predict, evaluate and explain read."""
    from hyperagg.classifier.estimator import TextClassifier

    classifier = TextClassifier.from_fasttext(file)
    with output_folder(out):
        classifier.save_pretrained(out)
    say(f"{len(classifier.tokenizer_):,} rows, {len(classifier.classes_)} classes -> {out}")
