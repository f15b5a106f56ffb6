"""hyperagg evaluate, and the pages that it and explain write, in a browser."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import hyperagg

MARKUP = (
    "</style><script>document.title = 'attacked'</script><img src=x onerror=alert(1)>\x1b[31m\u202e"
)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A model with a label of markup, and rows that it gets wrong."""
    folder = tmp_path_factory.mktemp("films")
    rows = [("a fine film", "good"), ("a dull film", MARKUP), ("an odd film", "odd")] * 20
    model = hyperagg.TextClassifier(d_model=8, epochs=5).fit(*zip(*rows))
    model.save_pretrained(folder / "model")
    with (folder / "test.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("text", "label"), *rows[:9], (f"a fine {MARKUP} film", MARKUP), ("dull", "unseen")]
        )
    return folder


def test_labels_errors_and_unknown_labels(cli, films):
    answer = cli("evaluate", films / "model", films / "test.csv")
    assert answer.code == 0
    assert "1 of 11 rows have labels that did not occur in training" in answer.err
    assert "'unseen'" in answer.err
    for title in ("precision", "most frequent errors", "errors with the highest loss"):
        assert title in answer.out
    assert "test.csv: row 10" in answer.out
    found = json.loads(cli("evaluate", films / "model", films / "test.csv", "--json").out)
    assert found["rows"] == 11 and found["accuracy"] == pytest.approx(9 / 11)
    assert found["unknown_labels"] == {"unseen": 1}
    assert {pair["rows"] for pair in found["confused_pairs"]} == {1}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_pages_fit_and_show_markup_as_text(cli, films, page, scheme, width):
    report, why = films / "report.html", films / "why.html"
    arguments = films / "model", films / "test.csv"
    assert cli("evaluate", *arguments, "--report", report).code == 0
    assert cli("explain", *arguments, "--worst", "--html", why).code == 0
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    for file in (report, why):
        page.goto(file.as_uri())
        assert page.title() != "attacked" and page.locator("img, script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "<script>document.title" in page.locator("body").inner_text()
        # The words of the chosen label are shown, and no others.
        views = page.locator("article").first.locator(".view")
        assert [view.is_visible() for view in views.all()].count(True) == 1
        page.locator("article").first.locator("input").nth(1).check()
        assert views.nth(1).is_visible() and not views.nth(0).is_visible()
    page.goto(report.as_uri())
    assert page.locator(".matrix td").count() == 4 * 4
    assert page.get_by_role("img", name="Reliability diagram").is_visible()


def test_a_model_without_explanations_lists_its_errors(cli, films, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    lines = tmp_path / "films.txt"
    lines.write_text("__label__good a fine film\n__label__bad a dull film\n" * 20)
    fasttext.train_supervised(str(lines), loss="hs", verbose=0).save_model(f"{tmp_path}/hs.bin")
    assert cli("convert", tmp_path / "hs.bin", "--out", tmp_path / "hs").code == 0
    lines.write_text("__label__bad a fine film\n__label__good a fine film\n")
    report = tmp_path / "report.html"
    assert cli("evaluate", tmp_path / "hs", lines, "--report", report).code == 0
    assert "text: a fine film" in report.read_text("utf-8")


@pytest.fixture(scope="module")
def prices(cli, tmp_path_factory):
    """A folder with a regressor of tables and a test file whose texts have markup."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("prices")
    rng = np.random.default_rng(0)
    for name, rows in (("train", 200), ("test", 60)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["note", "size", "price"])
            for size in rng.uniform(1, 5, rows).round(2):
                word = rng.choice(["cheap", "<script>document.title='attacked'</script>"])
                writer.writerow([word, size, round(size + 3 * (word != "cheap"), 2)])
    command = ["--text", "note", "--number", "size", "--label", "price", "--regression"]
    answer = cli("train", folder / "train.csv", *command, "--out", folder / "model")
    assert answer.code == 0, answer.err
    return folder


@pytest.mark.torch
@pytest.mark.parametrize("width", [1200, 360])
def test_the_report_of_a_regressor(cli, prices, page, width):
    report = prices / "report.html"
    command = "evaluate", prices / "model", prices / "test.csv", "--label", "price"
    answer = cli(*command, "--report", report)
    assert answer.code == 0 and "R²" in answer.out and "(standard error)" in answer.out
    assert "rows with the largest errors" in answer.out and "test.csv: row " in answer.out
    scores = json.loads(cli(*command, "--json").out)
    assert scores["rows"] == 60 and scores["r2"] > 0.5
    assert set(scores["standard_errors"]) == {"r2", "mae", "rmse"}
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(report.as_uri())
    assert page.title() != "attacked" and page.locator("img, script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("Predicted against true values", "Residuals against predictions"):
        diagram = page.get_by_role("img", name=name)
        assert diagram.is_visible() and diagram.locator("circle").count() == 60
    rows = page.locator("article")
    assert rows.count() == 20 and rows.first.locator(".view").is_visible()
    assert "the predicted value" in page.locator(".legend").inner_text()
    # The worst row is the one with the largest error.
    worst = rows.first.inner_text()
    assert answer.out.splitlines()[-5].split(": ")[1] in worst


@pytest.mark.torch
def test_the_worst_rows_of_a_regressor_are_explained(cli, prices):
    command = "explain", prices / "model", prices / "test.csv", "--label", "price", "--worst"
    answer = cli(*command, "--limit", "2", "--html", prices / "why.html")
    assert answer.code == 0 and answer.out.count("true: ") == 2, answer.err
    evaluated = cli("evaluate", prices / "model", prices / "test.csv", "--label", "price")
    first = evaluated.out.splitlines()[-5].split(": ")[1]  # the row, such as "row 7 (line 8)"
    assert first in answer.out.splitlines()[0]
