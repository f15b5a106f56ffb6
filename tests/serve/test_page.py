"""What a person sees who types into the page, in a headless Chromium."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

import hyperagg
from hyperagg.classifier import TextClassifier
from hyperagg.cli import app
from hyperagg.serve import Settings, create_app, load_models
from hyperagg.serve.page import assembly
from tests.serve.conftest import serving

TEXT = "The company said its net profit rose in the first quarter"
MARKUP = "<img src=x onerror=alert(1)> & \"quoted\" 'x' </script><script>alert(2)</script><!-- -->"


def scores(page) -> dict[str, str]:
    """The labels that the page shows, with their probabilities."""
    rows = page.locator('[data-part="scores"] li')
    return {
        row.locator(".name").inner_text(): row.inner_text().split("\n")[-1].strip()
        for row in rows.all()
    }


def answer_of(page) -> str:
    """What the page reports; waits until it has answered."""
    page.wait_for_function("() => /%|rows/.test(document.getElementById('status').textContent)")
    return page.locator("#status").inner_text()


def type_text(page, text: str, expected: str) -> None:
    page.locator("#text").fill(text)
    page.wait_for_function(
        "label => document.getElementById('status').textContent.startsWith(label + ':')",
        arg=expected,
    )


def table_of(page, file: Path) -> list[list[str]]:
    """The rows of the file that comes back for one that was chosen."""
    page.locator('[data-part="file"]').set_input_files(file)
    page.get_by_role("button", name="Label the rows").click()
    link = page.locator('[data-part="download"]')
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == f"{file.stem}-labeled.csv"
    with Path(download.value.path()).open(encoding="utf-8", newline="") as labeled:
        return list(csv.reader(labeled))


@pytest.fixture(scope="session")
def exported(folder, tmp_path_factory) -> Path:
    """The classifier of newswires as one file."""
    file = tmp_path_factory.mktemp("exported") / "news.html"
    result = CliRunner().invoke(app, ["export", str(folder), str(file)])
    assert result.exit_code == 0, result.output
    return file


def test_a_page_in_a_file_answers_as_one_types(page, exported, folder):
    quantized = TextClassifier.from_pretrained(folder).quantize()
    page.goto(exported.as_uri())
    answer_of(page)
    for text in (TEXT, "wheat and grain exports", "crude oil prices"):
        best, probability = quantized.predict(text, top_k=1)[0]
        type_text(page, text, best)
        assert scores(page)[best] == f"{100 * probability:.1f} %"
    # Each key changes the answer.
    before = page.locator("#status").inner_text()
    page.locator("#text").press_sequentially(" wheat")
    page.wait_for_function(
        "text => document.getElementById('status').textContent !== text", arg=before
    )
    assert page.title() == "news"
    assert "connect-src 'none'" in exported.read_text("utf-8")


def test_words_are_colored_and_have_numbers(page, exported, folder):
    explanation = TextClassifier.from_pretrained(folder).quantize().explain(TEXT)
    page.goto(exported.as_uri())
    type_text(page, TEXT, explanation.label)
    words = page.locator('[data-part="words"] span')
    assert words.all_inner_texts() == explanation.tokens
    assert page.locator('[data-part="words"]').inner_text() == TEXT
    contributions = explanation.for_label(explanation.label)
    for word, value in zip(words.all(), contributions, strict=True):
        direction = "neutral" if abs(value) < 0.05 else "for" if value > 0 else "against"
        assert word.get_attribute("class").startswith(direction)
    sign = "+" if contributions[1] > 0 else "−"
    expected = f"{explanation.label} {sign}{abs(contributions[1]):.3f}"
    words.nth(1).hover()
    assert expected in page.locator('[data-part="detail"]').inner_text()
    # By keyboard: the second word again.
    page.locator('[data-part="words"]').focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    detail = page.locator('[data-part="detail"]').inner_text()
    assert detail.startswith("“company”") and expected in detail
    # Another label is explained when it is chosen, and stays chosen.
    other = next(label for label in explanation.classes_ if label != explanation.label)
    page.get_by_role("radio", name=re.compile(rf"^{other} ")).check()
    page.wait_for_function(
        "label => document.querySelector('[data-part=detail]').textContent.startsWith(label)",
        arg=other,
    )


def test_a_file_comes_back_with_labels(page, exported, folder, newswires, tmp_path):
    texts = [*newswires[0][:250], 'a "quoted", text\nof two lines', ""]
    file = tmp_path / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["id", "text"], *enumerate(texts), ["one field"], [1, 2, 3]])
        out.write('7,"a quote that is not closed\n')
    page.goto(exported.as_uri())
    rows = table_of(page, file)
    assert rows[0] == ["id", "text", "predicted_label", "probability", "problem"]
    quantized = TextClassifier.from_pretrained(folder).quantize()
    assert [row[:3] for row in rows[1:253]] == [
        [str(i), text, label]
        for i, (text, label) in enumerate(zip(texts, quantized.predict(texts)))
    ]
    assert rows[253] == ["one field", "", "", "", "1 fields instead of 2"]
    assert rows[254][-1] == "3 fields instead of 2" and rows[254][:3] == ["1", "2", "3"]
    assert rows[255][-1] == "a quote is not closed"
    assert answer_of(page) == "255 rows, 3 of them with a problem"


def test_texts_and_labels_never_become_markup(page, tmp_path):
    folder = tmp_path / "<b>bold<b>"
    rows = ["good film", "bad film"] * 20, [MARKUP, "<script>alert(3)</script>"] * 20
    TextClassifier(d_model=4, epochs=2, refit=False).fit(*rows).save_pretrained(folder)
    card = (folder / "README.md").read_text("utf-8")
    widget = "---\nwidget:\n- text: '</script><b>bold</b>'\n- text: \"plain\"\n"
    (folder / "README.md").write_text(widget + card.removeprefix("---\n"), "utf-8")
    file = tmp_path / "page.html"
    predictor = hyperagg.load_predictor(folder)
    file.write_text(assembly.exported_page(predictor, folder.name, [MARKUP]), "utf-8")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    with serving(create_app(load_models([folder]))) as url:
        for address in (file.as_uri(), url):
            page.goto(address)
            answer_of(page)
            page.locator("#text").fill(MARKUP + " good")
            page.wait_for_function(
                "() => document.querySelectorAll('[data-part=words] span').length > 9"
            )
            assert page.locator('[data-part="words"]').inner_text() == MARKUP + " good"
            assert set(scores(page)) == set(rows[1])
            assert page.locator("h1").inner_text() == "<b>bold<b>"
            assert page.locator("main img, main b, main script").count() == 0
            assert not dialogs
        examples = page.locator('[data-part="examples"] button')
        assert examples.all_inner_texts() == ["</script><b>bold</b>", "plain"]
        examples.nth(1).click()
        assert page.locator("#text").input_value() == "plain"


def test_the_served_page_asks_the_server(page, url, folder, tmp_path):
    predictor = hyperagg.load_predictor(folder)
    page.goto(url)
    best, probability = predictor.predict(TEXT, top_k=1)[0]
    type_text(page, TEXT, best)
    assert scores(page)[best] == f"{100 * probability:.1f} %"
    assert (
        page.locator('[data-part="words"] span').all_inner_texts() == predictor.explain(TEXT).tokens
    )
    command = page.locator('[data-part="curl"]').inner_text()
    assert command.startswith(f"curl '{url}/predict' ") and TEXT in command
    file = tmp_path / "rows.csv"
    file.write_text(f"text\n{TEXT}\nwheat\n", "utf-8")
    assert [row[1] for row in table_of(page, file)[1:]] == predictor.predict([TEXT, "wheat"])


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [
        *[("light", "light", 1000), ("dark", "dark", 1000)],
        *[("phone-light", "light", 360), ("phone-dark", "dark", 360)],
    ],
)
def test_the_page_fits_the_screen_and_follows_its_colors(page, url, folder, name, scheme, width):
    """A folder in the environment variable HYPERAGG_SCREENSHOTS receives what it looks like."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(url)
    type_text(page, TEXT, hyperagg.load_predictor(folder).predict(TEXT))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    channels = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (sum(map(int, channels[:3])) < 3 * 128) == (scheme == "dark")
    if out := os.environ.get("HYPERAGG_SCREENSHOTS"):
        page.screenshot(path=Path(out) / f"page-{name}.png", full_page=True)


def test_the_policy_of_the_served_page_is_strict(url):
    answer = requests.get(url)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"\son[a-z]+=|style=|https?://", answer.text)


def test_a_label_is_corrected_on_the_page(page, newswires, tmp_path):
    path = tmp_path / "news"
    TextClassifier(d_model=8, epochs=3, refit=False).fit(*newswires).save_pretrained(path)
    settings = Settings(api_key="the-key", feedback_token="the-token")
    with serving(create_app(load_models([path]), settings)) as url:
        page.goto(url)
        page.get_by_label("API key").fill("the-key")
        page.get_by_role("button", name="Open").click()
        best = hyperagg.load_predictor(path).predict(TEXT)
        type_text(page, TEXT, best)
        before = scores(page)
        right = next(label for label in before if label != best)
        page.get_by_label("Right label").select_option(right)
        page.get_by_label("Feedback token").fill("the-token")
        page.get_by_role("button", name="Learn").click()
        page.wait_for_function("() => document.getElementById('status').textContent === 'learned'")
        assert scores(page) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["page.txt"], "page.txt: expected a name that ends in .html or .onnx"),
        (["old.html"], "old.html: exists already; pass --force to replace it"),
        (["a.onnx", "--max-tokens", "5"], "--max-tokens: applies to .html"),
    ],
)
def test_export_refuses_in_one_line(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("old.html").touch()
    result = CliRunner().invoke(app, ["export", str(folder), *arguments])
    assert isinstance(result.exception, ValueError) and str(result.exception).startswith(message)
    assert [file.name for file in tmp_path.iterdir()] == ["old.html"]


def test_export_keeps_the_most_important_tokens_and_writes_onnx(folder, tmp_path):
    small, whole = tmp_path / "small.html", tmp_path / "whole.html"
    for file, options in ((small, ["--max-tokens", "100"]), (whole, [])):
        result = CliRunner().invoke(app, ["export", str(folder), str(file), *options])
        assert result.exit_code == 0, result.output
    assert small.stat().st_size < whole.stat().st_size
    assert '"vocab_size": 101' in small.read_text("utf-8")
    pytest.importorskip("onnx")
    result = CliRunner().invoke(app, ["export", str(folder), str(tmp_path / "model.onnx")])
    assert result.exit_code == 0 and (tmp_path / "model.onnx").stat().st_size > 1000
