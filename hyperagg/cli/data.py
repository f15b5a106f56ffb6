"""hyperagg data: which data sets there are, fetching one, looking into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hyperagg.data import Dataset, list_datasets, load_dataset
from hyperagg.data.datasets.dataset import Labels

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(
    no_args_is_help=True,
    help="List, fetch and look into data sets.",
    epilog="Example: hyperagg data list",
)

Name = Annotated[str, typer.Argument(help="A name that `hyperagg data list` shows.")]


@app.command("list", epilog="Example: hyperagg data list")
def list_all() -> None:
    """Show every data set, its size and where it would be found now."""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "train", "test", "what it is", "found now", "terms")
    for listing in list_datasets():
        train, test = (f"{rows:,}" for rows in listing.rows)
        cells = (listing.name, train, test, listing.about, listing.found, listing.terms)
        table.add_row(*(plain(cell) for cell in cells))
    Console().print(table)


@app.command(epilog="Example: hyperagg data get r52")
def get(name: Name) -> None:
    """Fetch a data set into the cache, unless it is on this machine already."""
    from rich.console import Console

    Console().print(summary(load_dataset(name)))


@app.command(epilog="Example: hyperagg data show r52 --rows 3")
def show(
    name: Name,
    rows: Annotated[int, typer.Option(min=0, help="How many training rows to show.")] = 5,
) -> None:
    """Show the first rows of a data set and how many documents each class has."""
    from rich.console import Console
    from rich.table import Table

    data = load_dataset(name)
    console = Console()
    console.print(summary(data))

    first = Table("label", "text", title="first training rows" if rows else None)
    for label, text in list(zip(data.train.labels, data.train.texts, strict=True))[:rows]:
        own = label if isinstance(label, str) else ", ".join(label)
        first.add_row(plain(own), plain(text, 200))
    if rows:
        console.print(first)

    train, test = (Counter(each_label(split.labels)) for split in (data.train, data.test))
    classes = Table("class", "train", "test", title="classes, the largest first")
    for label in sorted(train | test, key=lambda one: (-train[one], one)):
        classes.add_row(plain(label), f"{train[label]:,}", f"{test[label]:,}")
    console.print(classes)


def each_label(labels: Labels) -> Iterator[str]:
    for label in labels:
        yield from (label,) if isinstance(label, str) else label


def summary(data: Dataset) -> Text:
    """Name, source, rows and terms, a line each."""
    from rich.text import Text

    sizes = {"train": data.train, "test": data.test, "validation": data.validation}
    rows = ", ".join(f"{part} {len(split):,}" for part, split in sizes.items() if split is not None)
    lines = [f"{data.name}: {rows} rows", f"source: {data.source}"]
    if data.terms:
        lines.append(f"terms: {data.terms}")
    return Text("\n".join(plain(line, 1000).plain for line in lines))


def plain(cell: str, limit: int = 200) -> Text:
    """One line without markup or control characters: data may hold what would move the cursor."""
    from rich.text import Text

    line = " ".join(cell[: 2 * limit].split())
    line = "".join(character for character in line if character.isprintable())
    return Text(line if len(line) <= limit else line[: limit - 1] + "…")
