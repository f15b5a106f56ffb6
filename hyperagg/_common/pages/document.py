"""A page of one file: its styles are inside, and its policy allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

__all__ = ["escape", "html_document", "html_table", "policy_hash", "read_style"]

# Characters that a browser does not show, or that would change the direction of what follows.
_INVISIBLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "�")


def escape(text: str) -> str:
    """Return HTML that shows a text and nothing else; control characters become U+FFFD."""
    return html.escape(text.translate(_INVISIBLE))


@cache
def read_style(name: str) -> str:
    """Return a style sheet of this folder."""
    # Read as text, so that a line break is a newline, as in the hash that a browser computes.
    return files(__package__).joinpath(name).read_text("utf-8")


def policy_hash(text: str) -> str:
    """Return the source expression of a content security policy that allows an inline text."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def html_document(title: str, body: str) -> str:
    """Return a page.

    Args:
        title: plain text.
        body: HTML.
    """
    style = read_style("base.css") + read_style("report.css")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src \
{policy_hash(style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain texts, the first column of which names the rows."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = "\n".join(
        f'<tr><th scope="row"><bdi>{escape(name)}</bdi></th>'
        + "".join(f"<td><bdi>{escape(cell)}</bdi></td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{lines}\n</table></div>'
