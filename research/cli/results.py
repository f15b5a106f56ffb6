"""python -m research results: compare the figures of the pages with results/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def results(
    root: Annotated[
        Path, typer.Argument(help="Folder of README.md, docs/ and results/.", exists=True)
    ] = Path(),
    write: Annotated[
        bool, typer.Option("--write", help="Put the numbers of the files into the pages.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="List every number with its page, line and source.")
    ] = False,
) -> None:
    """Compare every number of a page that names its source with the file it is from.

    Lists where each results.json file comes from. Ends with exit code 1 if a number differs, or if
    a table is of several commits or processors and its section does not say so.
    """
    from hyperagg._common.atomic import atomic_write
    from hyperagg._common.report import make_table, print_table
    from research.provenance import find_unnamed_mixtures, list_sources
    from research.quoted_figures import correct_page, find_mistakes, find_quotes, pages_of

    rows = [
        [str(each.path.relative_to(root)), each.commit, each.processor, each.command]
        for each in list_sources(root / "results")
    ]
    print_table(make_table("results", ["file", "commit", "processor", "command"], rows))
    checked = wrong = 0
    for page in pages_of(root):
        text = page.read_text("utf-8")
        if write and (corrected := correct_page(text, root)) != text:
            with atomic_write(page) as draft:
                draft.write_text(corrected, "utf-8")
            text = corrected
        for mistake in (*find_mistakes(text), *find_unnamed_mixtures(text, root)):
            wrong += 1
            print(f"{page}: {mistake}")
        for quote in find_quotes(text, root):
            checked += 1
            if not quote.is_correct:
                wrong += 1
                expected = quote.expected or "no number"
                print(f"{page}:{quote.line}: {quote.shown}, but {expected} in {quote.source}")
            elif figures:
                print(f"{page}:{quote.line}: {quote.shown} is {quote.source}")
    print(f"{checked:,} figures checked, {wrong:,} mistakes")
    if wrong:
        raise typer.Exit(1)
