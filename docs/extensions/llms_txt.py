"""Writes llms.txt: the pages of the site by section, each with its first sentence.

The form is that of llmstxt.org. The links lead to the Markdown of the pages, except for those whose
text is generated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

GENERATED = "docs/reference/"


def llms_txt(app: Any) -> str:
    """Return the text of the file."""
    root = app.config.root_doc
    lines = [f"# {app.config.project}", "", f"> {_first_sentence(app, root)}"]
    for toctree in app.env.get_doctree(root).findall(addnodes.toctree):
        lines += ["", f"## {toctree['caption']}", ""]
        for _, name in toctree["entries"]:
            lines += [_line(app, each) for each in _pages(app, name)]
    return "\n".join(lines) + "\n"


def _pages(app: Any, name: str) -> Iterator[str]:
    yield name
    for each in app.env.toctree_includes.get(name, ()):
        yield from _pages(app, each)


def _line(app: Any, name: str) -> str:
    generated = name.startswith(GENERATED)
    url = app.builder.get_target_uri(name) if generated else f"_sources/{name}.md"
    return f"- [{app.env.titles[name].astext()}]({url}): {_first_sentence(app, name)}"


def _first_sentence(app: Any, name: str) -> str:
    paragraph = next(iter(app.env.get_doctree(name).findall(nodes.paragraph)))
    text = " ".join(paragraph.astext().split())
    return re.split(r"(?<=[.!?]) (?=[A-Z])", text)[0].rstrip(":")


def write(app: Any, exception: Exception | None) -> None:
    """Write the file beside the pages."""
    if exception is None and app.builder.format == "html":
        (Path(app.outdir) / "llms.txt").write_text(llms_txt(app), "utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
