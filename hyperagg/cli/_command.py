"""Commands that refuse arguments which would have an effect that nobody wants."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["check_arguments"]

_COLUMNS = {"--text", "--label"}


class _Command(TyperCommand):
    """Refuse a second --text or --label, and an empty --out.

    The last column would win without a word. Of other options the last one does win, so that a
    command can be continued in a script. An empty path, of a variable of the shell that is not set,
    would be the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            if "--out" in option.opts and values.get(option.name) == "":
                ctx.fail("--out: expected a path, got ''")
            if not option.multiple and _COLUMNS & {*option.opts} and given.count(option) > 1:
                name = option.opts[0]
                ctx.fail(f"{name}: is given {given.count(option)} times; expected one column")
        return super().parse_args(ctx, args)


def check_arguments(app: typer.Typer) -> None:
    """Make all commands of an application, and of those below it, refuse such arguments."""
    for command in app.registered_commands:
        command.cls = _Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            check_arguments(group.typer_instance)
