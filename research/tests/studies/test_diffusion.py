"""The study of denoisers on a small scale: its files, and that it resumes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hyperagg.data.datasets.digits import Digits, Images, load_mnist
from research.studies import diffusion
from research.studies.diffusion import compare_denoisers


@pytest.fixture(scope="module")
def digits():
    whole = load_mnist()
    train, test = (
        Images(part.images[:rows], part.labels[:rows])
        for part, rows in ((whole.train, 2000), (whole.test, 300))
    )
    return Digits(train, test, whole.source)


def run(digits, out, **options):
    sizes = dict(patch_size=14, d_model=16, layers=1)
    rest = dict(steps=20, batch_size=16, samples=50, progress=False)
    rest |= dict(learning_rate=2e-3)
    return compare_denoisers(digits, out, **sizes | rest | options)


@pytest.fixture(scope="module")
def study(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("diffusion")
    return run(digits, out), out


def test_files_and_results(study):
    results, out = study
    assert json.loads((out / "results.json").read_text()) == results
    ours, baseline = (results["models"][name] for name in ("aggregation", "attention"))
    assert ours["parameters"] == pytest.approx(baseline["parameters"], rel=0.02)
    real = results["real"]
    # Five epochs of 2,000 digits suffice for a usable classifier.
    assert real["digit_classifier_accuracy"] > 0.85
    for model in (ours, baseline):
        # Twenty steps do not suffice to generate digits.
        seeds = model["seeds"]
        assert seeds["frechet"][0] > 2 * real["frechet"]
        assert 0 <= seeds["class_accuracy"][0] < 0.9 and seeds["nearest_ratio"][0] > 0
        assert np.mean(model["accuracy_per_class"]) == pytest.approx(seeds["class_accuracy"][0])
    table = (out / "table.md").read_text()
    assert "| aggregation |" in table and "| real training digits |" in table
    for name in ("samples-attention.png", "nearest-attention.png", "denoising-attention.gif"):
        assert (out / name).stat().st_size < 1_000_000


def test_resume_trains_and_generates_nothing_again(study, digits, monkeypatch):
    results, out = study
    monkeypatch.setattr(diffusion, "train_denoiser", None)
    monkeypatch.setattr(diffusion, "load_pipeline", None)
    assert run(digits, out, resume=True)["models"] == results["models"]
    with pytest.raises(ValueError, match="another study"):
        run(digits, out, resume=True, guidance=3.0)
    with pytest.raises(ValueError, match="mixer='windmill': expected one of aggregation"):
        run(digits, out, mixers=["windmill"])
    assert (out / "digit_classifier.safetensors").exists()  # checked before anything is removed
    with pytest.raises(ValueError, match="samples=15: expected a multiple of 10"):
        run(digits, out, samples=15)


def test_seeds_are_trained_separately_and_reported_together(study, digits, tmp_path):
    single = study[0]["models"]["aggregation"]
    both = run(digits, tmp_path, seeds=2, mixers=["aggregation"])["models"]["aggregation"]
    first, second = both["seeds"]["loss"]
    assert [first] == single["seeds"]["loss"] and second != first
    assert "±" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "models" / "aggregation-0.002-1").is_dir()


def test_learning_rates_are_selected_on_held_out_digits(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "INITIAL_LEARNING_RATES", (1.6e-2, 3.2e-2))
    model = run(digits, tmp_path, learning_rate=None, mixers=["attention"])["models"]["attention"]
    tried = {float(rate): found["frechet"] for rate, found in model["learning_rates_tried"].items()}
    assert len(tried) >= 3 and model["learning_rate"] == min(tried, key=tried.get)
    # The test digits are evaluated only at the selected learning rate.
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert [key for key in runs if "test" in runs[key]] == [
        f"attention|{model['learning_rate']:g}|0"
    ]
