"""The commands, code and tables of the README and of docs/ are correct."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import hyperagg
from hyperagg.cli import app
from hyperagg.data.datasets.digits import Digits, Images
from research.cli import app as research_app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
LONG = {"bench", "compare", "diffusion", "study", "tune"}  # stopped as soon as they start


def blocks(page, language):
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the commands name, made from real newswires."""
    import csv

    data = hyperagg.load_dataset("r8")
    # Two classes, so that both occur in the training rows.
    known = [i for i, label in enumerate(data.train.labels) if label in ("earn", "acq")]
    picked = np.random.default_rng(0).permutation(known)[:600]
    for name, part in (
        ("reviews.csv", picked[:400]),
        ("test.csv", picked[400:500]),
        ("new.csv", picked[500:]),
    ):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["review", "stars"])
            writer.writerows([data.train.texts[i], data.train.labels[i]] for i in part)
    # A table with a number and an image per row, both unrelated to the label.
    with (tmp_path / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "price", "photo", "stars"])
        for k, i in enumerate(picked[:60]):
            Image.fromarray(np.full((8, 8), 4 * k, np.uint8)).save(tmp_path / f"{k}.png")
            writer.writerow([data.train.texts[i], k / 2, f"{k}.png", data.train.labels[i]])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_commands(page, folder, monkeypatch):
    r8 = hyperagg.load_dataset("r8")

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    # Training that takes minutes stops at once; other tests run the same functions on less data.
    # Each name is replaced where the command imports it from: another test may have imported the
    # package before, and then holds the function itself.
    monkeypatch.setattr("hyperagg.classifier.comparison.compare.compare", stop)
    monkeypatch.setattr("research.studies.accuracy.measure_accuracy", stop)
    monkeypatch.setattr("research.studies.reuters.reuters", stop)
    monkeypatch.setattr("research.studies.deletion.deletion", stop)
    monkeypatch.setattr("research.studies.ag_news.ag_news_original", stop)
    monkeypatch.setattr("research.studies.language_models.compare_language_models", stop)
    monkeypatch.setattr("research.studies.capacity.retrieval", stop)
    monkeypatch.setattr("research.studies.multimodal.run.run_part", stop)
    monkeypatch.setattr("research.studies.diffusion.compare_denoisers", stop)
    monkeypatch.setattr("hyperagg.diffusion.train_denoiser", stop)
    monkeypatch.setattr("hyperagg.classifier.tuning.search.tune", stop)
    monkeypatch.setattr("research.benchmarks.ops.bench_ops", stop)
    monkeypatch.setattr("research.benchmarks.language.bench_language", stop)
    monkeypatch.setattr("hyperagg.data.load_dataset", lambda name: r8)
    monkeypatch.setattr("hyperagg.data.load_corpus", lambda name: None)
    blank = Images(np.zeros((10, 28, 28), np.uint8), np.arange(10))
    monkeypatch.setattr(
        "hyperagg.data.datasets.digits.load_mnist",
        lambda: Digits(blank, blank, "ten blank images"),
    )
    commands = [line for block in blocks(page, "bash") for line in block.splitlines() if line]
    assert len(commands) >= 5
    for line in commands:
        program, *arguments = shlex.split(line)
        if program == "python":
            assert arguments[:2] == ["-m", "research"]
            arguments, command_line = arguments[2:], research_app
        else:
            assert program == "hyperagg"
            command_line = app
        result = CliRunner().invoke(command_line, arguments)
        expected = 130 if arguments[0] in LONG else 0
        assert result.exit_code == expected, (line, result.output, result.exception)
    assert (folder / "model" / "config.json").exists()
    assert (folder / "model" / "cosines.png").exists() == ("analyze orthogonality" in str(commands))


PRINTED = {
    "README.md": ["'accuracy': 0.9", "('asked', "],
    "docs/python.md": ["'accuracy': 0.9", "['crude']", "\ncocoa\n"],  # a label of partial_fit
}


@pytest.mark.parametrize("page", PRINTED)
def test_python(page, folder, capsys):
    small = "--layers 1 --d-model 16 --vocab-size 300 --sequence-length 32 --max-steps 2 --out lm"
    trained = CliRunner().invoke(
        app, ["lm", "train", "reviews.csv", "--text", "review", *small.split()]
    )
    assert trained.exit_code == 0, trained.output
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)
    printed = capsys.readouterr().out
    for expected in PRINTED[page]:
        assert expected in printed


def test_the_readme_prints_what_it_says(folder, capsys):
    code, says = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    exec(compile(code, "README.md", "exec"), {})

    def rounded(text):  # another processor adds up in another order
        return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}", text)

    assert rounded(capsys.readouterr().out) == rounded(says)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_and_figures_are_those_in_results(page):
    text = page.read_text("utf-8")
    for path, table in re.findall(r"<!-- table: (\S+) -->\n(.*?)<!-- /table -->", text, re.DOTALL):
        assert table.strip() == (ROOT / path).read_text("utf-8").strip(), path
    for figure in re.findall(r"!\[.*?\]\((\S+)\)", text):
        assert (page.parent / figure).exists()


def test_the_results_have_tables():
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert text.count("<!-- table: ") == text.count("<!-- /table -->") > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """To a file, and to a heading of it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, target
