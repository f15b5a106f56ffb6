"""hyperagg quantize: a smaller copy of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import Model, output_folder, say

EXAMPLE = "Example: hyperagg quantize model --max-tokens 20000 --out small"


def quantize(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to write the small model to.")],
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Words and grams to keep; else all of them.")
    ] = None,
) -> None:
    """Write a model with 8 bits a number, and fewer words if wanted."""
    from hyperagg.classifier.estimator import TextClassifier

    classifier = TextClassifier.from_pretrained(model).quantize(max_tokens=max_tokens)
    with output_folder(out):
        classifier.save_pretrained(out)
    before, after = (
        sum(file.stat().st_size for file in folder.iterdir() if file.name != "training.safetensors")
        for folder in (model, out)
    )
    say(f"{before / 1e6:.1f} MB -> {after / 1e6:.1f} MB in {out}")
