"""hyperagg export: a classifier as one HTML page, or as an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import ForceFile, Model, Threads, check_output_file, logger

EXAMPLE = "Example: hyperagg export model page.html"

# The numbers of the embedding that a page holds by default, one byte each: with the
# vocabulary and in base64 a page of about 3 MB, which an e-mail can take.
_MAX_NUMBERS = 2_000_000


def export(
    model: Model,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="FILE.html: a page that classifies and explains without a server; FILE.onnx: a "
            "graph that maps token ids to logits and probabilities, with its tokenizer.",
        ),
    ],
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of words and n-grams that a page holds, the most important ones (default: "
            "2,000,000 / d_model).",
        ),
    ] = None,
    force: ForceFile = False,
    threads: Threads = None,
) -> None:
    """Write a classifier as a file for those who do not have hyperagg."""
    from hyperagg.classifier import TextClassifier

    check_output_file(file, (".html", ".onnx"), force)
    kind = file.suffix.lower()
    if kind == ".onnx":
        if max_tokens is not None:
            raise ValueError("--max-tokens: applies to .html; use hyperagg quantize before .onnx")
        TextClassifier.from_pretrained(model).export_onnx(file)
    else:
        _write_page(model, file, max_tokens)
    logger.info(f"{file.stat().st_size / 1e6:.1f} MB in {file}")
    if kind == ".onnx":
        logger.info(
            "its inputs are the ids of the tokenizer in its metadata, which "
            "hyperagg.classifier.OnnxTokenizer reads"
        )


def _write_page(model: str, file: Path, max_tokens: int | None) -> None:
    from hyperagg._common.atomic import atomic_write
    from hyperagg._common.hub import locate_model
    from hyperagg._common.model_card import example_texts
    from hyperagg.classifier import TextClassifier
    from hyperagg.serve.page.assembly import exported_page
    from hyperagg.serve.page.parameters import check_exportable

    folder = locate_model(model)
    classifier = TextClassifier.from_pretrained(folder)
    check_exportable(classifier.predictor)
    number = len(classifier.tokenizer_)
    limit = _MAX_NUMBERS // classifier.config.d_model if max_tokens is None else max_tokens
    if number > limit:
        try:
            classifier.quantize(max_tokens=limit)
        except ValueError:  # a model that was quantized has no counts to choose tokens by
            if max_tokens is not None:
                raise
    if len(classifier.tokenizer_) < number:
        logger.info(f"kept {limit:,} of {number:,} words and n-grams; --max-tokens changes that")
    page = exported_page(classifier.predictor, Path(model).resolve().name, example_texts(folder))
    with atomic_write(file) as draft:
        draft.write_text(page, encoding="utf-8", newline="\n")
