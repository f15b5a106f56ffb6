"""The site is built without a warning, its links lead somewhere, and it has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

from hyperagg.cli import app

for package in ("sphinx", "torch", "transformers", "diffusers", "keras", "ray", "datatrove"):
    pytest.importorskip(package, reason="needs pip install 'hyperagg[docs]'")

ROOT = Path(__file__).parents[2]
OPTIONS = ["-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", "."]
MODULES = [
    "hyperagg",
    *(
        f"hyperagg.{name}"
        for name in (
            *("classifier", "text", "data", "ops", "layers", "language", "multimodal"),
            *("diffusion", "serve", "sklearn", "keras", "integrations"),
        )
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the site, as `make docs` makes it."""
    out = tmp_path_factory.mktemp("site")
    assert " ".join(OPTIONS) in (ROOT / "Makefile").read_text("utf-8")
    built = subprocess.run(
        [sys.executable, *OPTIONS, str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return out


class Links(HTMLParser):
    """The targets of a page's links and the places that others may lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.targets.append(value)
            elif value and name == "id":
                self.places.add(value)


def test_links_within_the_site_lead_somewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    for page, links in pages.items():
        for target in links.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (page.parent / unquote(url.path)).resolve() if url.path else page
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), (page.relative_to(site), target)
            if url.fragment and file in pages:
                assert unquote(url.fragment) in pages[file].places, (page.relative_to(site), target)


def test_the_reference_has_every_public_name(site):
    """Under the name of one of the modules that have it."""
    lines = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4])
    documented = {line.split(b" ")[0].decode() for line in lines.splitlines()}
    packages = [import_module(module) for module in MODULES]
    names = {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in packages
        for name in package.__all__
        if name != "__version__"
    }
    objects = [one for name, one in names.items() if name in documented]
    assert not [name for name, one in names.items() if not any(one is each for each in objects)]


def test_the_reference_has_every_command_and_option(site):
    page = (site / "docs" / "reference" / "commands.html").read_text("utf-8")
    text = re.sub(r"<[^>]*>", "", page)

    def check(name, command):
        assert name in text
        for option in (opt for each in command.params for opt in each.opts if opt[:2] == "--"):
            assert option in text, (name, option)
        for own, each in getattr(command, "commands", {}).items():
            check(f"{name} {own}", each)

    check("hyperagg", typer.main.get_command(app))


@pytest.mark.parametrize(
    "name",
    ["index", "tutorials/classify-texts", "reference/text-classifier", "reference/commands"],
)
def test_a_page_fits_the_screen_and_follows_its_colors(page, site, name):
    """A folder in the environment variable HYPERAGG_SCREENSHOTS receives what it looks like."""
    for scheme, width in (("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto((site / "docs" / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        channels = [int(number) for number in re.findall(r"\d+", color)[:3]]
        assert (sum(channels) < 3 * 128) == (scheme == "dark")
        if out := os.environ.get("HYPERAGG_SCREENSHOTS"):
            file = f"{name.replace('/', '-')}-{scheme}-{width}.png"
            page.screenshot(path=Path(out) / file)


def test_llms_txt_lists_the_pages(site):
    text = (site / "llms.txt").read_text("utf-8")
    assert re.match(r"# hyperagg\n\n> hyperagg \S.*\.\n\n## ", text)
    targets = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", text, re.MULTILINE)
    assert len(targets) == text.count("\n- ")
    for target in targets:
        assert (site / target).exists(), target
    named = {target.removeprefix("_sources/").removesuffix(".md") for target in targets}
    pages = {
        str(page.relative_to(site)).removesuffix(".html")
        for part in ("docs", "results")
        for page in (site / part).rglob("*.html")
    }
    assert pages - {target.removesuffix(".html") for target in named} == {"docs/index"}


def test_the_page_of_licenses_has_the_dependencies_of_every_extra(site):
    page = (site / "docs" / "reference" / "licenses.html").read_text("utf-8")
    text = re.sub(r"<[^>]*>", " ", page)
    for package, license in (("numpy", "BSD"), ("typer", "MIT"), ("torch", "BSD")):
        assert re.search(rf"\b{package}\s+[^\n]*{license}", text), package
    for extra in ("language", "ray", "serve"):
        assert f"hyperagg[{extra}]" in text
    assert "hyperagg[dev]" not in text
