"""hyperagg explain: why a text gets its label, token by token."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hyperagg.cli.options import Format, Model, say
from hyperagg.cli.options import Text as TextColumn

EXAMPLE = "Example: hyperagg explain model new.csv --text review --html why.html"


def explain(
    model: Model,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="As for predict; none: what speaks for each class."),
    ] = None,
    text: TextColumn = None,
    format: Format = None,
    first: Annotated[int, typer.Option(min=1, help="How many texts to explain.")] = 10,
    html: Annotated[Path | None, typer.Option(help="Write a page of HTML here as well.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines with every token and class.")
    ] = False,
) -> None:
    """Show what each token adds to the label of its text; the parts add up to the logit."""
    from hyperagg.multimodal.serialization import is_multimodal

    if is_multimodal(model):
        from hyperagg.cli import multimodal

        if text is not None or html is not None:
            option = "--text" if text is not None else "--html"
            raise ValueError(f"{option}: is for a classifier of texts alone; leave it out")
        if file is None:
            raise ValueError(f"{model}: name a FILE of rows to explain as well")
        multimodal.explain(model, file, format, first, json)
        return
    from rich.console import Console
    from rich.text import Text

    from hyperagg._common.atomic import atomic_write
    from hyperagg.classifier.estimator import TextClassifier
    from hyperagg.classifier.explanation_report import colored_text, html_page
    from hyperagg.data import read_texts

    classifier, console = TextClassifier.from_pretrained(model), Console(highlight=False)
    if file is None:
        if html is not None or json:
            raise ValueError("--html and --json: name a FILE of texts to explain as well")
        for label, tokens in classifier.top_features().items():
            print(f"{label}: {' '.join(tokens)}")
        return
    if html is not None and html.is_dir():
        raise ValueError(f"--html {html}: is a folder; give the name of a file")
    texts = read_texts(file, text, format=format)
    explanations = [classifier.explain(each) for each in texts[:first]]
    for e in explanations:
        if json:
            print(_json(e))
            continue
        head = f"{e.label} {e.probabilities.max():.1%}: "
        console.print(Text.assemble(head, colored_text(e)), soft_wrap=True)
        sums: Counter[str] = Counter()
        for token, part in zip(e.tokens, e.for_label(e.label)):
            sums[token.lower()] += part
        strongest = sorted(sums, key=lambda token: -abs(sums[token]))[:8]
        parts = ", ".join(f"{token} {sums[token]:+.2f}" for token in strongest)
        c = e.classes_.index(e.label)
        told = f"logit {e.logits[c]:+.2f} = {e.bias[c]:+.2f} + tokens"
        console.print(Text(f"  {told}: {parts}"), soft_wrap=True)
    if len(texts) > first:
        say(f"the first {first} of {len(texts)} texts; --first {len(texts)} explains them all")
    if html is not None:
        with atomic_write(html) as draft:
            page = html_page(explanations, f"{Path(file).name}, explained")
            draft.write_text(page, "utf-8", errors="replace")
        say(f"page in {html}")


def _json(e) -> str:
    from json import dumps

    return dumps(
        {
            "label": e.label,
            "classes": e.classes_,
            "logits": [round(float(z), 6) for z in e.logits],
            "bias": [round(float(b), 6) for b in e.bias],
            "tokens": e.tokens,
            "contributions": e.contributions.round(6).tolist(),
        },
        ensure_ascii=False,
    )
