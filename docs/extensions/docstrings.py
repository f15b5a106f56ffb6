"""Makes reStructuredText of docstrings, which are written as plain text.

- An indented block after a paragraph is a formula or code, and stays as it is; so does an equation
  that is a paragraph.
- "Numerics: ..." and the like, with their indented second lines, are paragraphs of their own.
- Stars, bars and underscores outside of backticks mean themselves.

Napoleon then reads the sections "Args:", "Returns:" and so on.
"""

from __future__ import annotations

import re
from typing import Any

_LABELED = re.compile(
    r"(Args, raises|Cost|Inputs|Memory|Numerics|Outputs|Raises|Source\b[\w ]*): +(\S.*)"
)
_NAME = re.compile(r"( +[-*\w`, .]+: )(.*)")
_EQUATION = re.compile(r"[\w{}, ]{1,16} = .*[^.]")
_CODE = re.compile(r"(``.*?``|`[^`]*`)")


def convert(lines: list[str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText."""
    out: list[str] = []
    within = ""  # "block", "doctest" or "labeled"
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""]):
        text, indented = line.strip(), line.startswith(" ")
        if within == "block" and (indented or not text):
            out.append(line)
            continue
        if within == "doctest" and text:
            out.append(line)
            continue
        if text.startswith(">>>"):
            within = "doctest"
            out.append(line)
            continue
        after_paragraph = len(out) > 1 and not out[-1] and out[-2][:1] not in ("", " ", "-")
        if indented and after_paragraph:
            within = "block"
            out += ["::", "", line]
            continue
        if not before and not after and _EQUATION.fullmatch(line):
            out += ["::", "", f"    {line}"]
            continue
        if labeled := _LABELED.fullmatch(line):
            within = "labeled"
            out += ["", f"**{labeled[1]}:** {_escape(labeled[2])}"]
            continue
        if within == "labeled" and indented:
            out.append(_escape(text))
            continue
        within = ""
        named = _NAME.fullmatch(line)
        out.append(named[1] + _escape(named[2]) if named else _escape(line))
    return out


def _escape(line: str) -> str:
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"([\\|*])|(?<=\w)(_)(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Convert the docstring of an object of the package."""
    lines[:] = convert(lines)


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension, before Napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
