"""hyperagg explain: what each token contributes to the label of its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hyperagg._common.terminal import cell, echo
from hyperagg.cli._evaluation import unknown_labels_note
from hyperagg.cli._terms import list_terms, list_tokens
from hyperagg.cli.options import (
    AnsweredOnError,
    Delimiter,
    Format,
    Json,
    Label,
    LabelSeparator,
    Model,
    NoHeader,
    Quoting,
    Threads,
    logger,
    single_file,
)
from hyperagg.cli.options import Text as TextColumn
from hyperagg.multimodal import is_multimodal

if TYPE_CHECKING:
    from hyperagg.classifier import Explanation, TextClassifier
    from hyperagg.data.readers.stream import ReadOptions

EXAMPLE = "Example: hyperagg explain model new.csv --text review --html why.html"

_NUM_TERMS = 8
_MAX_CHARACTERS = 1000  # of a text that is printed; a page has all of it


class _Row(NamedTuple):
    """A text to explain, and its number among all rows; the label is None if it is not known."""

    number: int
    name: str
    text: str
    true_label: Any = None


def explain(
    model: Model,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...", help="Files as for predict; without one, the top features per class."
        ),
    ] = None,
    text: TextColumn = None,
    label: Label = None,
    explained: Annotated[
        str | None,
        typer.Option("--class", help="Label to explain (default: the most probable one)."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Explain what speaks for --class rather than this label."),
    ] = None,
    row: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Number of a row to explain, from 1, counted over all files; may be repeated.",
        ),
    ] = None,
    worst: Annotated[
        bool,
        typer.Option(
            "--worst", help="Explain the wrongly predicted rows with the highest loss first."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Number of texts to explain.")] = 10,
    html: Annotated[Path | None, typer.Option(help="HTML page to write as well.")] = None,
    json: Json = False,
    format: Format = None,
    label_separator: LabelSeparator = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    on_error: AnsweredOnError = None,
    threads: Threads = None,
) -> None:
    """Show what each token contributes to the logit of its text's label.

    The contributions and the bias add up to the logit. With --label or --worst, the true labels are
    read and shown as well.
    """
    if against is not None and explained is None:
        raise ValueError(f"--against {against}: needs --class, the label that it is compared with")
    if html is not None and html.is_dir():
        raise ValueError(f"--html {html}: is a folder; expected the name of a file")
    if row and worst:
        raise ValueError("--row and --worst: expected one of them")
    if is_multimodal(model):
        from hyperagg.cli import multimodal

        unused = {"--text": text, "--label-separator": label_separator, "--against": against}
        for option, value in unused.items():
            if value is not None:
                raise ValueError(f"{option}: applies to a classifier of text alone; leave it out")
        if not files:
            raise ValueError(f"{model}: a multimodal model explains rows; name a FILE as well")
        table = single_file(files, delimiter=delimiter, no_header=no_header, quoting=quoting)
        multimodal.explain(
            Path(model),
            table,
            format,
            on_error or "stop",
            label=label,
            explained=explained,
            rows=row or [],
            worst=worst,
            limit=limit,
            html=html,
            as_json=json,
        )
        return
    from hyperagg.classifier import TextClassifier, explanation_page
    from hyperagg.data.readers.stream import ReadOptions

    classifier = TextClassifier.from_pretrained(model)
    if not files:
        for option, given in {"--html": html, "--row": row, "--worst": worst or None}.items():
            if given:
                raise ValueError(f"{option}: applies to texts; name a FILE as well")
        _print_top_features(classifier, json)
        return
    classes = _classes_to_explain(classifier, explained, against)
    options = ReadOptions(format, delimiter, not no_header, quoting)
    if label is None and not worst:
        rows = _read_texts(files, text, options, on_error or "empty", row or [], limit)
    else:
        options = replace(options, on_error=on_error or "stop")
        labeled, total = _read_labeled(classifier, files, text, label, label_separator, options)
        _check_numbers(row or [], total, [each.number for each in labeled])
        rows = _choose(classifier, labeled, row or [], worst, limit)
    explanations = [classifier.explain(each.text) for each in rows]
    if html is not None:
        from hyperagg._common.atomic import atomic_write

        page = explanation_page(
            explanations,
            f"{', '.join(map(_file_name, files))}, explained",
            names=[each.name for each in rows],
            true_labels=[each.true_label for each in rows],
            labels=classes,
        )
        with atomic_write(html) as draft:
            draft.write_text(page, "utf-8", errors="replace")
        logger.info(f"page in {html}")
    for explanation, each in zip(explanations, rows):
        if json:
            echo(_to_json(explanation, each))
        else:
            _print(explanation, each, classes[0] if classes else None)


def _classes_to_explain(
    classifier: TextClassifier, explained: str | None, against: str | None
) -> list[Any]:
    """The labels of a page: none for the default ones."""
    from hyperagg.data.readers.columns import join_quoted

    found = []
    for option, given in {"--class": explained, "--against": against}.items():
        if given is None:
            continue
        (label,) = classifier.parse_labels([given])
        if label not in classifier.classes_:
            expected = join_quoted([str(each) for each in classifier.classes_])
            raise ValueError(f"{option} {given}: expected one of {expected}")
        found.append(label)
    if len(found) == 2:
        if found[0] == found[1]:
            raise ValueError(f"--against {against}: expected another label than --class")
        return [tuple(found), *found]
    return found


def _read_texts(
    files: list[str],
    text: str | None,
    options: ReadOptions,
    on_error: str,
    numbers: list[int],
    limit: int,
) -> list[_Row]:
    """The first texts, or those of the rows with these numbers."""
    from hyperagg.data.readers.columns import pluralize
    from hyperagg.data.readers.sources import display_name, expand_sources
    from hyperagg.data.readers.stream import stream_rows

    wanted = set(numbers)
    found: dict[int, _Row] = {}
    total, problems = 0, Counter[str]()
    for source in expand_sources(files, format=options.format):
        before = total
        for batch in stream_rows(
            source,
            text=text,
            format=options.format,
            delimiter=options.delimiter,
            header=options.header,
            quoting=options.quoting,
            on_error=on_error,  # type: ignore[arg-type]  # checked there
        ):
            for row, own in zip(batch.rows, batch.texts):
                number = before + row + 1
                if number in wanted if wanted else len(found) < limit:
                    found[number] = _Row(number, f"{display_name(source)}: row {row + 1}", own)
            total = before + batch.end_row
            problems += batch.problems
    if not total:
        raise ValueError(f"{display_name(files[0])}: has no rows; expected one row per text")
    _check_numbers(numbers, total, found)
    odd = "".join(f", {problem}: {count:,}" for problem, count in problems.most_common())
    logger.info(f"read {pluralize(total, 'row')}{odd}; explained {len(found):,}")
    if not wanted and total > limit:
        logger.info(f"--limit {total} explains all of them")
    return [found[number] for number in numbers] if wanted else list(found.values())


def _read_labeled(
    classifier: TextClassifier,
    files: list[str],
    text: str | None,
    label: str | None,
    label_separator: str | None,
    options: ReadOptions,
) -> tuple[list[_Row], int]:
    """The rows with their labels, and the number of the last row of the files."""
    from hyperagg.data.readers.columns import ColumnSpec
    from hyperagg.data.readers.files import display_name, read_columns

    spec = ColumnSpec(display_name(files[0]), text, label, label_separator=label_separator)
    columns = read_columns(files, spec, options)
    labels = classifier.parse_labels(columns.labels or [])
    rows = [
        _Row(number, columns.row_name(i), own, true)
        for i, (number, own, true) in enumerate(zip(columns.row_numbers, columns.texts, labels))
    ]
    return rows, columns.last_number


def _choose(
    classifier: TextClassifier, rows: list[_Row], numbers: list[int], worst: bool, limit: int
) -> list[_Row]:
    from hyperagg.data.readers.columns import pluralize

    index_of = {each.number: i for i, each in enumerate(rows)}
    chosen = [index_of[number] for number in numbers] or list(range(len(rows))[:limit])
    if worst:
        evaluation = classifier.evaluation(
            [each.text for each in rows], [each.true_label for each in rows]
        )
        chosen = evaluation.worst_rows(limit)
        if note := unknown_labels_note(evaluation):
            logger.info(f"warning: {note}; they are not explained")
    logger.info(f"read {pluralize(len(rows), 'row')}; explained {len(chosen):,}")
    return [rows[i] for i in chosen]


def _check_numbers(numbers: list[int], total: int, usable: Collection[int]) -> None:
    for number in numbers:
        if number > total:
            raise ValueError(f"--row {number}: there are {total:,} rows; expected 1 to {total}")
        if number not in usable:
            raise ValueError(f"--row {number}: cannot be used and is left out")


def _file_name(source: str) -> str:
    return "standard input" if source == "-" else Path(source).name


def _print_top_features(classifier: TextClassifier, as_json: bool) -> None:
    features = classifier.top_features()
    if as_json:
        echo(dumps({str(label): own for label, own in features.items()}, ensure_ascii=False))
        return
    for label, tokens in features.items():
        echo(f"{label}: {list_tokens(tokens)}")


def _print(explanation: Explanation, row: _Row, label: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    from hyperagg.classifier.explanation_report import colored_text, explained_row

    console = Console(highlight=False)
    label = explanation.label if label is None else label
    shown = explained_row(explanation, row.name, row.true_label, [label])
    (view,) = shown.views
    true = "" if row.true_label is None else f" ({shown.verdict})"
    text = Text(" ").join(colored_text(explanation, label).split("\n"))  # one line per text
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS].append(" ...")
    console.print(f"{row.name}: ", end="", markup=False, soft_wrap=True)
    console.print(Text.assemble(cell(f"{view.name}{true}: "), text), soft_wrap=True)
    parts = list_terms(view.terms, _NUM_TERMS)
    console.print(
        cell(f"  logit {view.total:+z.2f} = {view.bias:+z.2f} + tokens: {parts}"), soft_wrap=True
    )


def _to_json(explanation: Explanation, row: _Row) -> str:
    spans = explanation.feature_spans
    return dumps(
        {
            "row": row.name,
            "label": explanation.label,
            "true_label": row.true_label,
            "classes": explanation.classes_,
            "logits": [round(float(z), 6) for z in explanation.logits],
            "bias": [round(float(b), 6) for b in explanation.bias],
            "tokens": explanation.tokens,
            "contributions": explanation.contributions.round(6).tolist(),
            "features": [explanation.text[begin:end] for begin, end in spans],
            "feature_contributions": explanation.feature_contributions.round(6).tolist(),
        },
        ensure_ascii=False,
    )
