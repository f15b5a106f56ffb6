"""The study of modalities: equal sizes, noise, files and resume."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperagg.data.datasets.digits import Digits, Images, load_fsdd, load_mnist
from research.benchmarks import multimodal as speed
from research.data.clothing_reviews import load_clothing_reviews
from research.data.digit_pairs import pair
from research.studies.multimodal import classification, digits, regression, reviews, unimodal
from research.studies.multimodal.digits import CASES
from research.studies.multimodal.pairs import (
    columns_of,
    noisy_audio,
    noisy_image,
    subset_pairs,
)
from research.studies.multimodal.run import run_part
from research.studies.multimodal.subsets import NAMES, SUBSETS, describe
from research.studies.multimodal.unimodal import Effort, count_parameters

TINY = Effort(
    epochs=(1, 1, 1, 1), learning_rates=(5e-3,), pairs=100, tuning_pairs=40, test_pairs=40
)


@pytest.fixture
def few(monkeypatch):
    """A few digits, so that pairing is fast."""
    written, spoken = load_mnist(), load_fsdd()
    part = Images(written.train.images[:400], written.train.labels[:400])
    small = Digits(part, Images(written.test.images[:100], written.test.labels[:100]), "few")
    monkeypatch.setattr("research.studies.multimodal.run.load_mnist", lambda: small)
    monkeypatch.setattr("research.studies.multimodal.run.load_fsdd", lambda: spoken)


def test_pairs_are_of_one_digit_and_the_same_every_time():
    written, spoken = load_mnist().test, load_fsdd().test
    pairs, again = pair(written, spoken, 3), pair(written, spoken, 3)
    known = {spoken[i].tobytes(): int(spoken.labels[i]) for i in range(300)}
    assert len(pairs) == 10_000 and len(known) == 300
    for i in range(0, 10_000, 97):
        assert known[pairs.audio[i].tobytes()] == pairs.labels[i] == written.labels[i]
        np.testing.assert_array_equal(pairs.audio[i], again.audio[i])
    assert len({clip.tobytes() for clip in pairs.audio}) == 300


def test_fusions_have_equally_many_weights():
    sizes = []
    for fusion in digits.FUSIONS:
        study = digits._Study.__new__(digits._Study)
        study.effort, study.spoken = TINY, load_fsdd()
        model = study.model(fusion, digits.hidden_dim_of(fusion, 8000), 1e-3, 1)
        pairs = pair(load_mnist().test, load_fsdd().test, 0)
        model.fit(columns_of(subset_pairs(pairs, 64)), pairs.labels[:64].tolist())
        sizes.append(count_parameters(model))
    assert max(sizes) / min(sizes) < 1.02


def test_noise():
    rng = np.random.default_rng(0)
    audio = (3000 * np.sin(np.arange(4000))).astype(np.int16)
    added = noisy_audio(audio, rng) - audio / np.float32(32768)
    assert added.std() == pytest.approx((audio / 32768).std(), rel=0.05)  # 0 dB
    image = np.full((28, 28), 128, np.uint8)
    assert noisy_image(image, rng).dtype == np.uint8
    assert noisy_image(image, rng).std() > 80


def test_digits_and_subsets_files_and_resume(few, tmp_path, monkeypatch):
    tables = run_part("digits", tmp_path, 1, effort=TINY)
    results = json.loads((tmp_path / "digits" / "results.json").read_text())
    for model in results["fusions"].values():
        assert set(model["accuracy"]) == set(CASES)
        assert all(0 <= x[0] <= 1 for x in model["accuracy"].values())
    assert "| both, noisy audio |" in tables[0] and "fsdd" in tables[1]
    assert (tmp_path / "digits" / "digits.md").read_text() == tables[0]
    run_part("subsets", tmp_path, 1, effort=TINY)
    found = json.loads((tmp_path / "subsets" / "results.json").read_text())["subsets"]
    assert len(found) == len(SUBSETS) == 7
    assert (tmp_path / "digits" / "explanation.png").stat().st_size > 10_000
    assert tables[2].count("\n") == 2 + 4
    for module in (digits, unimodal):
        monkeypatch.setattr(module, "MultimodalClassifier", None)
    again = run_part("digits", tmp_path, 1, effort=TINY, resume=True)
    assert again == tables
    with pytest.raises(ValueError, match="another study"):
        run_part("digits", tmp_path, 1, resume=True)


def test_texts_describe_a_digit_by_name_or_by_two_properties():
    assert all(NAMES[digit] in describe(digit, True) for digit in range(10))
    assert len({describe(digit, False) for digit in range(10)}) == 4


@pytest.fixture
def data():
    """Reviews that cannot be downloaded."""
    if not Path(os.environ.get("HYPERAGG_DATA", ""), "clothing-reviews").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no clothing-reviews")
    return load_clothing_reviews()


@pytest.mark.usefixtures("data")
def test_reviews(tmp_path, monkeypatch):
    monkeypatch.setattr(reviews, "SETTINGS", dict(d_model=8, epochs=1))
    monkeypatch.setattr(reviews, "GRIDS", dict.fromkeys(reviews.GRIDS, (3.0, 10.0)))
    (table,) = run_part("reviews", tmp_path, 1, rows=600)
    found = json.loads((tmp_path / "reviews" / "results.json").read_text())["reviews"]
    assert set(found) == {"rating", "recommended"}
    assert set(found["rating"]) == {*reviews.OURS, *reviews.BASELINES}
    assert found["rating"]["ridge / logistic, TF-IDF + table"]["r2"][0] > 0.2
    assert found["recommended"]["sum, text + table"]["accuracy"][0] > 0.75
    assert table.count("\n") == 2 + 7


@pytest.mark.usefixtures("data")
def test_regression_beside_ridge(tmp_path, monkeypatch):
    monkeypatch.setattr(regression, "TARGETS", {"rating": "rating"})
    (table,) = run_part("regression", tmp_path, 2, rows=400)
    results = json.loads((tmp_path / "regression" / "results.json").read_text())["regression"]
    found = results["rating"]["400"]
    assert np.mean(found["ridge"]["r2"]) > 0.1 and len(found["default"]["r2"]) == 2
    gain = np.mean(found["default"]["r2"]) - np.mean(found["ridge"]["r2"])
    assert found["difference"]["r2"] == pytest.approx(gain, abs=1e-4)
    assert 0 < found["difference"]["standard_error"] < 0.2
    assert "predicted" not in found["default"] and table.count("\n") == 2 + 1


@pytest.mark.usefixtures("data")
def test_classification_beside_logistic_regression(tmp_path, monkeypatch):
    name = "reviews: 3 numbers, 3 categories"
    monkeypatch.setattr(classification, "ROWS", {name: (300,)})
    kinds = classification._KINDS
    monkeypatch.setattr(classification, "_KINDS", {name: kinds[name]})
    (table,) = run_part("classification", tmp_path, 1, rows=200)
    results = json.loads((tmp_path / "classification" / "results.json").read_text())
    found = results["classification"][name]["200"]
    for model in classification.MODELS:
        assert found[model]["accuracy"][0] > 0.85 and "correct" not in found[model], model
    gain = found["default"]["accuracy"][0] - found["logistic"]["accuracy"][0]
    assert found["difference"]["accuracy"] == pytest.approx(gain)
    assert 0 < found["difference"]["standard_error"] < 0.05
    assert table.count("\n") == 2 + 1
    assert "/" not in results["source"].replace("HYPERAGG_DATA/", "")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("target", regression.TARGETS)
def test_a_target_is_not_an_input(data, target):
    columns, values = regression.columns_and_target(data.test, target, np.arange(50))
    assert regression.TARGETS[target] not in columns and "recommended" not in columns
    assert len(values) == 50 == len(columns["text"])


def test_reviews_split_and_missing_file(data, monkeypatch, tmp_path):
    assert (len(data.train), len(data.test)) == (18_789, 4697)
    assert data.test.cells["age"][:5] == load_clothing_reviews().test.cells["age"][:5]
    for given in (reviews.OURS, reviews.BASELINES):
        assert not {"rating", "recommended"} & {str(c) for own in given.values() for c in own}
    assert sum(text is None for text in data.train.texts() + data.test.texts()) == 844
    monkeypatch.setenv("HYPERAGG_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"clothing-reviews is not in .* kaggle\.com"):
        load_clothing_reviews()


def test_speed_compares_blocks_of_equal_size(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "LENGTHS", {"20 values": (20, 2, 32)})
    table = speed.bench_multimodal(tmp_path, 0.01)
    own = json.loads((tmp_path / "results.json").read_text())["speed"]["20 values"]
    sizes = own["parameters"]
    assert sizes["attention"] == pytest.approx(sizes["aggregation"], rel=0.02)
    assert "20 values, 2 rows: attention" in table
    block = speed.AttentionBlock(16, 2)
    x = torch.randn(2, 5, 16)
    moved = (block(x) - block(x + torch.eye(5)[2][:, None])).abs().sum(2)
    assert (moved > 0).all()
