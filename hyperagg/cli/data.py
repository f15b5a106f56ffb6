"""hyperagg data: list, download and show data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hyperagg.data import Dataset, list_datasets, load_dataset
from hyperagg.data.dataset import Labels

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(
    no_args_is_help=True,
    help="List, download and show data sets.",
    epilog="Example: hyperagg data list",
)

Name = Annotated[str, typer.Argument(help="The name of a data set, from `hyperagg data list`.")]


@app.command("list", epilog="Example: hyperagg data list")
def list_all() -> None:
    """List the data sets with their sizes, and where each would be read from now."""
    from rich.table import Column, Table

    from hyperagg._common.report import print_table

    # What is typed into other commands is never cut.
    name = Column("name", no_wrap=True, min_width=max(len(each.name) for each in list_datasets()))
    table = Table(name, "train", "test", "description", "location", "terms")
    for listing in list_datasets():
        train, test = (f"{rows:,}" for rows in listing.rows)
        cells = (listing.name, train, test, listing.description, listing.location, listing.terms)
        table.add_row(*(plain(cell) for cell in cells))
    print_table(table)


@app.command(epilog="Example: hyperagg data get r52")
def get(name: Name) -> None:
    """Download a data set into the cache, unless it is already on this machine."""
    from rich.console import Console

    Console().print(summary(load_dataset(name)))


@app.command(epilog="Example: hyperagg data show r52 --rows 3")
def show(
    name: Name,
    rows: Annotated[int, typer.Option(min=0, help="The number of training rows to show.")] = 5,
) -> None:
    """Show the first rows of a data set and the number of documents per class."""
    from rich.console import Console
    from rich.table import Table

    data = load_dataset(name)
    console = Console()
    console.print(summary(data))

    first = Table("label", "text", title="First training rows" if rows else None)
    for label, text in list(zip(data.train.labels, data.train.texts, strict=True))[:rows]:
        joined = label if isinstance(label, str) else ", ".join(label)
        first.add_row(plain(joined), plain(text, 200))
    if rows:
        console.print(first)

    train, test = (Counter(each_label(split.labels)) for split in (data.train, data.test))
    classes = Table("class", "train", "test", title="Classes by number of training documents")
    for label in sorted(train | test, key=lambda one: (-train[one], one)):
        classes.add_row(plain(label), f"{train[label]:,}", f"{test[label]:,}")
    console.print(classes)


def each_label(labels: Labels) -> Iterator[str]:
    """Yield every label of every document."""
    for label in labels:
        yield from (label,) if isinstance(label, str) else label


def summary(data: Dataset) -> Text:
    """Return the name and rows, the source and the terms of a data set on one line each."""
    from rich.text import Text

    sizes = {"train": data.train, "test": data.test, "validation": data.validation}
    rows = ", ".join(f"{part} {len(split):,}" for part, split in sizes.items() if split is not None)
    lines = [f"{data.name}: {rows} rows", f"source: {data.source}"]
    if data.terms:
        lines.append(f"terms: {data.terms}")
    return Text("\n".join(plain(line, 1000).plain for line in lines))


def plain(cell: str, limit: int = 200) -> Text:
    """Return a cell as one line without markup, and without characters that move the cursor."""
    from rich.text import Text

    line = " ".join(cell[: 2 * limit].split())
    line = "".join(character for character in line if character.isprintable())
    return Text(line if len(line) <= limit else line[: limit - 1] + "…")
