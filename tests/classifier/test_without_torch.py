"""The classifier works with only the base dependencies installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = ["torch", "scipy", "sklearn", "tokenizers", "huggingface_hub", "matplotlib", "optuna"]

SCRIPT = """
import sys
for name in {blocked}:
    sys.modules[name] = None  # importing it raises ImportError

import json
import numpy as np
import hyperagg
from hyperagg.classifier import load_predictor

folder = sys.argv[1]
texts, labels = ["good film", "bad film", "fine film"] * 20, ["yes", "no", "yes"] * 20
clf = hyperagg.TextClassifier(d_model=8, threads=2).fit(texts, labels, class_weight="balanced")
clf.partial_fit(["awful film"] * 5, ["no"] * 5, sample_weight=[1, 2, 1, 2, 1])
multi = hyperagg.TextClassifier(d_model=8).fit(texts, [[label] for label in labels])
results = {{
    "label": clf.predict("good film"),
    "top": clf.predict(["bad film"], top_k=1)[0][0][0],
    "multi": multi.predict("good film"),
    "scores": sorted(clf.evaluate(texts, labels)),
    "multi_scores": sorted(multi.evaluate(texts, [[label] for label in labels])),
    "explained": clf.explain("a good film").for_label("yes").argmax().item(),
    "features": clf.top_features(1)["no"],
    "streamed": clf.stream().append("go").append("od").predict(),
}}
clf.save_pretrained(folder)
again = hyperagg.TextClassifier.from_pretrained(folder)
assert np.array_equal(again.predict_proba(texts), clf.predict_proba(texts))
again.quantize(max_tokens=4).save_pretrained(folder)
assert np.array_equal(load_predictor(folder).predict_proba(texts), again.predict_proba(texts))
for call in (
    clf.to_torch,
    lambda: clf.push_to_hub("owner/name"),
    lambda: hyperagg.TextClassifier.from_pretrained("owner/name"),
):
    try:
        call()
    except ImportError as error:
        results.setdefault("missing", []).append(str(error))
loaded = [name for name in {blocked} if sys.modules.get(name) is not None]
assert not loaded, loaded
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    script = SCRIPT.format(blocked=BLOCKED)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path_factory.mktemp("model")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_of_the_classifier_runs(results):
    found = {name: value for name, value in results.items() if name != "missing"}
    assert found == {
        "label": "yes",
        "top": "no",
        "multi": ["yes"],
        "scores": ["accuracy", "expected_calibration_error", "macro_f1"],
        "multi_scores": ["expected_calibration_error", "macro_f1", "micro_f1"],
        "explained": 1,
        "features": ["bad"],
        "streamed": "yes",
    }


def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(results):
    assert len(results["missing"]) == 3
    for message, extra in zip(results["missing"], ("torch", "hub", "hub")):
        assert "\n" not in message
        assert f"pip install 'hyperagg[{extra}]'" in message
