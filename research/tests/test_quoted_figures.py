"""Figures on pages are those of the files that they are from."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from research.cli import app
from research.quoted_figures import correct_page, find_mistakes, find_quotes, value_at

RESULTS = {
    "environment": {"commit": "abc1234", "processor": "a processor"},
    "seconds": {"a/b": [3.0, 1.0, 2.0], "c": 0.5},
    "rows": 71870,
    "share": 0.98765,
    "name": "r8",
    "seeds": [0.25, 0.5, 0.9],
    "broken": float("nan"),
    "rounds": [[1, 2], [3, 8]],
    "two words": 7,
}


def definitions(source):
    return f"\n\n<!-- figures\na-name = {source}\n-->\n"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "results" / "speed"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("nothing")
    return tmp_path


@pytest.mark.parametrize(
    ("number", "source", "expected"),
    [
        ("2.0", "results/speed#/seconds/a~1b", "2.0"),
        ("4", "results/speed#/seconds/a~1b / #/seconds/c", "4"),
        ("0.5", "results/speed#/seconds/c", "0.5"),
        ("99", "results/speed#/share * 100", "99"),
        ("98.77", "results/speed#/share * 100", "98.77"),
        ("71,870", "results/speed#/rows", "71,870"),
        ("55.0", "mean of results/speed#/seeds * 100", "55.0"),
        ("0.328", "deviation of results/speed#/seeds", "0.328"),
        ("0.25", "lowest of results/speed#/seeds", "0.25"),
        ("8", "highest of results/speed#/rounds", "8"),
        ("2.5", "results/speed#/rounds", "2.5"),
        ("75.0", "results/speed#/seconds/c % below #/seconds/a~1b", "75.0"),
        ("300", "results/speed#/seconds/a~1b % above #/seconds/c", "300"),
        ("5", "mean of results/speed#/seeds - #/seconds/c * 100", "5"),
        ("0.0", "results/speed#/seconds/c - 0.5000001", "0.0"),
        ("7", "results/speed#/two words", "7"),
        ("1", "results/speed#/name", None),
        ("1", "results/speed#/seconds/d", None),
        ("1", "deviation of results/speed#/rows", None),
        ("1", "results/speed#/rows + #/rows", None),
        ("1", "results/speed#/broken", None),
        ("1", "results/speed#/seconds/c * 1" + "0" * 400, None),
        ("1", "results/other#/rows", None),
        ("1", "results", None),
    ],
)
def test_sources(root, number, source, expected):
    [quote] = find_quotes(f"\n{number}<!-- a-name --> s{definitions(source)}", root)
    assert quote.expected == expected and quote.line == 2
    assert quote.is_correct == (expected is not None)


def test_a_page_is_corrected(root):
    text = "`9<!-- a-name -->`, 7 rows, 1.23<!-- a-name --> s, 5<!-- other -->" + definitions(
        "results/speed#/seconds/c"
    )
    assert correct_page(text, root) == text.replace("1.23", "0.50")


@pytest.mark.parametrize(
    "text", ["9 %<!-- a-name -->", "9 <!-- a-name -->", "9<!--a-name-->", "1e5<!-- a-name -->", "9"]
)
def test_a_figure_that_is_not_seen_is_a_mistake(text):
    assert find_mistakes(text + definitions("results/speed#/rows"))
    assert find_mistakes(definitions("results/speed"))


def test_a_name_has_one_definition():
    twice = 2 * definitions("results/speed#/rows")
    assert find_mistakes("9<!-- a-name -->" + twice) == ["a-name: is defined twice"]


def test_figures_that_are_seen_are_not_mistakes():
    page = "9<!-- a-name --> and 9.5<!-- a-name -->" + definitions("results/speed#/rows")
    assert find_mistakes(page) == []


def test_a_number_is_at_the_end_of_a_pointer():
    assert value_at([{"a": [1, 2]}], "/0/a/1") == 2
    for pointer in ("/1", "/0/b", "/0/a/x", "/0"):
        with pytest.raises(KeyError):
            value_at([{"a": [1, 2]}], pointer)


def test_command(root):
    page = root / "docs" / "page.md"
    page.write_text("0.7<!-- a-name --> s" + definitions("results/speed#/seconds/c"))
    answer = CliRunner().invoke(app, ["results", str(root)])
    assert answer.exit_code == 1
    assert "page.md:1: 0.7, but 0.5 in a-name = results/speed#/seconds/c" in answer.output
    assert "abc1234" in answer.output and "1 figures checked, 1 mistakes" in answer.output
    assert CliRunner().invoke(app, ["results", str(root), "--write"]).exit_code == 0
    assert page.read_text().startswith("0.5<!-- a-name --> s")
    listed = CliRunner().invoke(app, ["results", str(root), "--figures"])
    assert "page.md:1: 0.5 is a-name = results/speed#/seconds/c" in listed.output


def test_pages_of_the_repository(pytestconfig):
    answer = CliRunner().invoke(app, ["results", str(pytestconfig.rootpath)])
    assert answer.exit_code == 0, answer.output
