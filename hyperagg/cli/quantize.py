"""hyperagg quantize: a smaller copy of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import (
    Force,
    Model,
    Threads,
    check_model_folder,
    logger,
    output_folder,
    save_model,
)

EXAMPLE = "Example: hyperagg quantize model --max-tokens 20000 --out small"


def quantize(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the smaller model.")],
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Number of words and n-grams to keep (default: all)."),
    ] = None,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Store the embedding in 8 bits per number, and optionally keep fewer tokens."""
    from hyperagg.classifier import TextClassifier

    check_model_folder(out, force)
    with output_folder(out):
        classifier = TextClassifier.from_pretrained(model).quantize(max_tokens=max_tokens)
        save_model(classifier.save_pretrained, out)
    before = f"{_megabytes(Path(model)):.1f} MB -> " if Path(model).is_dir() else ""
    logger.info(f"{before}{_megabytes(out):.1f} MB in {out}")


def _megabytes(folder: Path) -> float:
    """The size of what prediction needs."""
    files = [file for file in folder.iterdir() if file.name != "training.safetensors"]
    return sum(file.stat().st_size for file in files) / 1e6
