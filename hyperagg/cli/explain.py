"""hyperagg explain: what each token contributes to the label of its text."""

from __future__ import annotations

from collections import Counter
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperagg.cli._models import is_multimodal
from hyperagg.cli.options import (
    Delimiter,
    Format,
    Json,
    Model,
    NoHeader,
    Quoting,
    logger,
    single_file,
)
from hyperagg.cli.options import Text as TextColumn

if TYPE_CHECKING:
    from hyperagg.classifier.explanation import Explanation

EXAMPLE = "Example: hyperagg explain model new.csv --text review --html why.html"


def explain(
    model: Model,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...", help="Files as for predict; without one, the top features per class."
        ),
    ] = None,
    text: TextColumn = None,
    format: Format = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of texts to explain.")] = 10,
    html: Annotated[Path | None, typer.Option(help="HTML page to write as well.")] = None,
    json: Json = False,
) -> None:
    """Show what each token contributes to the logit of its text's label.

    The contributions and the bias add up to the logit.
    """
    if is_multimodal(model):
        from hyperagg.cli import multimodal

        for option, value in {"--text": text, "--html": html}.items():
            if value is not None:
                raise ValueError(f"{option}: applies to a classifier of text alone; leave it out")
        if not files:
            raise ValueError(f"{model}: a multimodal model explains rows; name a FILE as well")
        table = single_file(files, delimiter=delimiter, no_header=no_header, quoting=quoting)
        multimodal.explain(Path(model), table, format, limit, json)
        return
    from hyperagg.classifier import TextClassifier
    from hyperagg.data.readers.columns import pluralize
    from hyperagg.data.readers.sources import display_name, expand_sources
    from hyperagg.data.readers.stream import stream_rows

    classifier = TextClassifier.from_pretrained(model)
    if not files:
        if html is not None:
            raise ValueError(f"--html {html}: a page explains texts; name a FILE as well")
        features = classifier.top_features()
        if json:
            print(dumps({str(label): own for label, own in features.items()}, ensure_ascii=False))
            return
        for label, tokens in features.items():
            print(f"{label}: {' '.join(tokens)}")
        return
    if html is not None and html.is_dir():
        raise ValueError(f"--html {html}: is a folder; expected the name of a file")
    texts: list[str] = []
    total, problems = 0, Counter[str]()
    for source in expand_sources(files, format=format):
        for batch in stream_rows(
            source,
            text=text,
            format=format,
            delimiter=delimiter,
            header=not no_header,
            quoting=quoting,
        ):
            texts += batch.texts[: limit - len(texts)]
            total += len(batch)
            problems += batch.problems
    if not total:
        raise ValueError(f"{display_name(files[0])}: has no rows; expected one row per text")
    explanations = [classifier.explain(each) for each in texts]
    for explanation in explanations:
        if json:
            print(_to_json(explanation))
        else:
            _print(explanation)
    odd = "".join(f", {problem}: {count:,}" for problem, count in problems.most_common())
    logger.info(f"read {pluralize(total, 'row')}{odd}; explained {len(texts):,}")
    if total > limit:
        logger.info(f"--limit {total} explains all of them")
    if html is not None:
        from hyperagg._common.atomic import atomic_write
        from hyperagg.classifier.explanation_report import html_page

        with atomic_write(html) as draft:
            page = html_page(explanations, f"{', '.join(map(_file_name, files))}, explained")
            draft.write_text(page, "utf-8", errors="replace")
        logger.info(f"page in {html}")


def _file_name(source: str) -> str:
    return "standard input" if source == "-" else Path(source).name


def _print(explanation: Explanation) -> None:
    from rich.console import Console
    from rich.text import Text

    from hyperagg.classifier.explanation_report import colored_text

    console = Console(highlight=False)
    label = explanation.label
    head = f"{label} {explanation.probabilities.max():.1%}: "
    console.print(Text.assemble(head, colored_text(explanation)), soft_wrap=True)
    sums: Counter[str] = Counter()
    for token, contribution in zip(explanation.tokens, explanation.for_label(label)):
        sums[token.lower()] += contribution
    strongest = sorted(sums, key=lambda token: -abs(sums[token]))[:8]
    parts = ", ".join(f"{token} {sums[token]:+.2f}" for token in strongest)
    c = explanation.classes_.index(label)
    logit, bias = explanation.logits[c], explanation.bias[c]
    console.print(Text(f"  logit {logit:+.2f} = {bias:+.2f} + tokens: {parts}"), soft_wrap=True)


def _to_json(explanation: Explanation) -> str:
    return dumps(
        {
            "label": explanation.label,
            "classes": explanation.classes_,
            "logits": [round(float(z), 6) for z in explanation.logits],
            "bias": [round(float(b), 6) for b in explanation.bias],
            "tokens": explanation.tokens,
            "contributions": explanation.contributions.round(6).tolist(),
        },
        ensure_ascii=False,
    )
