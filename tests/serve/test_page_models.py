"""The page of models that are not classifiers of text, and of several models."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs pip install 'hyperagg[language,multimodal]'")

from PIL import Image

from hyperagg.serve import create_app, load_models
from tests.serve.conftest import serving


def wait_for(page, text: str) -> None:
    page.wait_for_function(
        "text => document.getElementById('status').textContent.includes(text)", arg=text
    )


def test_a_language_model_continues_a_prompt(page, language_url):
    page.goto(language_url)
    page.locator("#prompt").fill("oil <b>prices")
    page.get_by_text("Settings").click()
    page.get_by_label("Tokens").fill("12")
    page.get_by_label("Seed").fill("3")
    page.get_by_role("button", name="Generate").click()
    wait_for(page, "done")
    first = page.locator('[data-part="output"]').inner_text()
    assert first.startswith("oil <b>prices") and len(first) > len("oil <b>prices")
    speed = page.locator('[data-part="speed"]').inner_text()
    assert re.search(r"text: 12 tokens · \d+ tokens per second · state after a text: [\d,]+", speed)
    # The same seed gives the same text.
    page.get_by_role("button", name="Generate").click()
    wait_for(page, "done")
    assert page.locator('[data-part="output"]').inner_text() == first
    # An error of the server is shown as it is.
    page.get_by_label("Tokens").fill("9999999")
    page.get_by_role("button", name="Generate").click()
    wait_for(page, "max_tokens=9999999: expected at most")


def test_a_generation_is_stopped(page, language_url):
    page.goto(language_url)
    page.route("**/v1/completions", lambda route: None)  # a request that is never answered
    page.get_by_role("button", name="Generate").click()
    wait_for(page, "generating")
    page.get_by_role("button", name="Stop").click()
    wait_for(page, "stopped")
    assert page.get_by_role("button", name="Generate").is_enabled()


def test_a_row_of_a_table_is_predicted(page, multimodal_folder, tmp_path):
    image = tmp_path / "red.png"
    Image.fromarray(np.full((8, 8, 3), 200, dtype=np.uint8)).save(image)
    folders = [multimodal_folder / "fruit", multimodal_folder / "price"]
    with serving(create_app(load_models(folders))) as url:
        page.goto(url)
        page.get_by_role("button", name="Predict").click()
        wait_for(page, "fill in at least one column")
        page.get_by_label("note").fill("red <i>and</i> round")
        page.get_by_label("weight").fill("150")
        page.get_by_label("image (image)").set_input_files(image)
        page.locator(".preview img").wait_for()
        page.get_by_role("button", name="Predict").click()
        wait_for(page, "%")
        labels = page.locator('[data-part="scores"] .name').all_inner_texts()
        assert sorted(labels) == ["apple", "banana"]
        columns = page.locator('[data-part="contributions"] dt').all_inner_texts()
        assert [each.split()[0] for each in columns][:2] == ["note", "weight"]
        assert page.locator('[data-part="contributions"] i').count() == 0
        # The other model, which predicts a number.
        page.get_by_label("Model").select_option("price")
        page.wait_for_function("() => document.title === 'price'")
        page.get_by_label("note").fill("red")
        page.get_by_role("button", name="Predict").click()
        wait_for(page, "value: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser, url, scheme):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 340, "height": 600})
    page = context.new_page()
    page.goto(url)
    page.locator("#text").fill("profit " * 40 + "x" * 200)
    page.wait_for_function("() => document.querySelectorAll('[data-part=words] span').length > 40")
    width = "() => document.documentElement.scrollWidth"
    ground = "() => getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(width) <= 340
    assert (page.evaluate(ground) == "rgb(255, 255, 255)") is (scheme == "light")
    # Every field and button has a name for those who do not see the page.
    nameless = """() => [...document.querySelectorAll("main :is(input, select, textarea, button)")]
      .filter((each) => !each.labels?.length && !each.textContent.trim()).length"""
    assert page.evaluate(nameless) == 0
    context.close()
