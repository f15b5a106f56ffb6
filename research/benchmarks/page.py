"""Size, accuracy, speed and exactness of a classifier that is exported as one HTML file.

The file is opened from the disk in a headless Chromium (Debian's package) by Playwright.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier
from hyperagg._common.report import environment, write_results
from hyperagg.cli.export import export
from hyperagg.data import Dataset

__all__ = ["bench_page"]

_BROWSER = "/usr/bin/chromium"
_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_ANSWERED = "() => /%/.test(document.getElementById('status').textContent)"
_EXPLAIN = """async (texts) => {
  const model = await LocalClassifier.load(data("description"), data("parameters"));
  const begun = performance.now();
  const answers = JSON.parse(texts).map((text) => model.explain(text));
  const seconds = (performance.now() - begun) / 1000;
  const ids = JSON.parse(texts).map((text) => model.tokenizer.encode(text).ids);
  return JSON.stringify({ answers, ids, seconds });
}"""


def bench_page(
    dataset: Dataset,
    out: Path,
    *,
    model: Path | None = None,
    max_tokens: tuple[int | None, ...] = (None, 10_000, 100_000),
    texts: int = 2000,
    openings: int = 7,
) -> dict[str, Any]:
    """Export a classifier, open the page, and compare its answers with those of Python.

    Args:
        dataset: trains the model, with the default arguments; its test rows measure it.
        out: the folder for results.json.
        model: a folder with a model that was trained so already.
        max_tokens: the numbers of tokens to keep; None: as many as the command keeps by default.
        texts: the number of test rows whose answers are compared.
        openings: the number of times that each page is opened.
    """
    test_texts, test_labels = list(dataset.test.texts), list(dataset.test.labels)
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model = Path(folder, "model")
            classifier = TextClassifier().fit(dataset.train.texts, dataset.train.labels)
            classifier.save_pretrained(model)
        whole = TextClassifier.from_pretrained(model)
        results: dict[str, Any] = {
            "environment": environment(),
            "dataset": dataset.name,
            "tokens": len(whole.tokenizer_),
            "accuracy": whole.evaluate(test_texts, test_labels)["accuracy"],
            "pages": [],
        }
        for number in max_tokens:
            file = Path(folder, "page.html")
            export(str(model), file, number, force=True)
            description = file.read_text("utf-8").split('"vocab_size": ', 1)[1]
            kept = int(description.split(",", 1)[0]) - 1  # without "[UNK]"
            rounded = TextClassifier.from_pretrained(model).quantize(max_tokens=kept)
            results["pages"].append(
                {
                    "tokens": kept,
                    "bytes": file.stat().st_size,
                    "accuracy": rounded.evaluate(test_texts, test_labels)["accuracy"],
                    **_compare(file, rounded, test_texts[:texts], openings),
                }
            )
    write_results(out, results)
    return results


def _compare(
    file: Path, classifier: TextClassifier, texts: list[str], openings: int
) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=_BROWSER, args=_OPTIONS)
        for _ in range(openings):
            page = browser.new_page()
            begun = time.perf_counter()
            page.goto(file.as_uri())
            page.wait_for_function(_ANSWERED)
            seconds.append(time.perf_counter() - begun)
        found = json.loads(page.evaluate(_EXPLAIN, json.dumps(texts)))
        browser.close()
    same_tokens, same_labels, logits, contributions = 0, 0, 0.0, 0.0
    for text, ids, answer in zip(texts, found["ids"], found["answers"], strict=True):
        explanation = classifier.explain(text)
        same_tokens += ids == classifier.tokenizer_.encode([text]).token_ids.tolist()
        same_labels += answer["labels"][0]["label"] == str(explanation.label)
        own = {each["label"]: each for each in answer["labels"]}
        columns = [own[str(label)] for label in explanation.classes_]
        difference = np.subtract([each["logit"] for each in columns], explanation.logits)
        logits = max(logits, float(np.abs(difference).max()))
        shares = np.array([each["contributions"] for each in columns]).T
        difference = np.abs(shares - explanation.contributions)
        contributions = max(contributions, float(difference.max(initial=0)))
    return {
        "seconds_to_first_answer": {
            "median": float(np.median(seconds)),
            "quartiles": np.quantile(seconds, [0.25, 0.75]).tolist(),
        },
        "milliseconds_per_text": 1000 * found["seconds"] / len(texts),
        "texts": len(texts),
        "same_tokens": same_tokens,
        "same_label": same_labels,
        "largest_difference": {"logit": logits, "contribution": contributions},
    }
