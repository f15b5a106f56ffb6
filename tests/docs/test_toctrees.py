"""Every page of the site can be reached from its first page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def listed(page: Path) -> list[Path]:
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    entries = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    return [(page.parent / f"{entry}.md").resolve() for entry in entries]


def test_every_page_is_in_one_toctree_and_every_entry_is_a_page():
    pages = {*DOCS.rglob("*.md"), *(ROOT / "results").glob("*/README.md")}
    pages |= {ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"}
    entries = [entry for page in pages for entry in listed(page)]
    assert sorted(entries) == sorted(pages - {DOCS / "index.md"})
