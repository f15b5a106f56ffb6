"""Commands that take one column of texts and one of labels."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["refuse_repeated_columns"]

_COLUMNS = {"--text", "--label"}


class _Command(TyperCommand):
    """Refuse a second --text or --label: the last one would win without a word.

    Of other options the last one does win, so that a command can be continued in a script.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            if not option.multiple and _COLUMNS & {*option.opts} and given.count(option) > 1:
                name = option.opts[0]
                ctx.fail(f"{name}: is given {given.count(option)} times; expected one column")
        return super().parse_args(ctx, args)


def refuse_repeated_columns(app: typer.Typer) -> None:
    """Make all commands of an application, and of those below it, refuse repeated columns."""
    for command in app.registered_commands:
        command.cls = _Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            refuse_repeated_columns(group.typer_instance)
