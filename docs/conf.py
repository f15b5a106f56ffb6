"""Sphinx makes the site of the pages in docs/, of those in results/ and of CONTRIBUTING.md.

The source directory is the top folder, so that links between these pages are the same in a checkout
and on the site: `make docs`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported

from sphinx.domains.python import PyObject

import hyperagg

project = "hyperagg"
author = "the hyperagg authors"
project_copyright = author
release = hyperagg.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_reference",
    "dependency_licenses",
    "docstrings",
    "llms_txt",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "results/*/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
myst_heading_anchors = 4
highlight_language = "text"
pygments_dark_style = "github-dark"
smartquotes_action = "D"  # dashes alone: values in quotes are copied

# A name in single backticks is a link where it is one of the reference, and code elsewhere.
default_role = "py:obj"
napoleon_use_ivar = (
    True  # attributes are described with the class, not as entries beside its members
)
napoleon_custom_sections = [("Call arguments", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Of the adapters; these packages need Java, a GPU or an old NumPy.
autodoc_mock_imports = ["dolma", "nemo_curator", "pyspark"]
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"hyperagg {release}"
html_extra_path = ["extra"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sourcelink_suffix = ""  # the Markdown of each page, which llms.txt links to
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output


def offer_tables(app: Any, name: str, source: list[str]) -> None:
    """Make links to tables in results/, which are not pages, links to download them."""
    source[0] = re.sub(r"\]\((\.\./results/\S+/(?!README)\w+\.md)\)", r"](path:\1)", source[0])
    source[0] = re.sub(r"\[([^\]]*)\]\(\.\./results/?\)", r"`\1/`", source[0])


def setup(app: Any) -> None:
    """Connect the function above, and call attributes what they are called in docstrings."""
    app.connect("source-read", offer_tables)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
