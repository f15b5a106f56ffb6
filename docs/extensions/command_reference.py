"""Fills the page of the commands from their parsers, so that it says what `--help` says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from hyperagg.cli import app as commands

PAGE = "docs/reference/commands"
_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "path": "PATH"}


def describe(name: str, command: Any, level: int = 2) -> Iterator[str]:
    """Yield the Markdown of a command and of those below it."""
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *map(_plain, command.collect_usage_pieces(context))])
    yield f"{'#' * level} {name}"
    yield command.help or ""
    yield f"```text\n{usage}\n```"
    records = [each.get_help_record(context) for each in command.params]
    rows = [f"| `{_cell(_plain(own))}` | {_cell(text)} |" for own, text in filter(None, records)]
    if rows:
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *rows])
    if command.epilog:
        yield f"Example:\n\n```bash\n{command.epilog.removeprefix('Example: ')}\n```"
    for own, each in getattr(command, "commands", {}).items():
        yield from describe(f"{name} {own}", each, level + 1)


def _plain(text: str) -> str:
    """Return the name of an argument or option as documentation writes it, not Python."""
    text = re.sub(r"\{([^{}]*)\}(?:\.\.\.)?|(\[[^\[\]]*\.\.\.\])\.\.\.", r"\1\2", text)
    if not text.startswith("-"):
        text = re.sub(r" <.*>", "", text)
    return re.sub(r"<(?:list\[)?(\w+)[^>]*>", lambda kind: _TYPES.get(kind[1], kind[1]), text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def fill(app: Any, name: str, source: list[str]) -> None:
    """Append the commands to the source of their page."""
    if name == PAGE:
        source[0] += "\n" + "\n\n".join(describe("hyperagg", typer.main.get_command(commands)))


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}
