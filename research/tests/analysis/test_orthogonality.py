from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

import hyperagg
from research.analysis.figures import draw_cosine_ranges, draw_cosines
from research.analysis.orthogonality import BINS, measure, pairwise_cosines, untrained
from research.studies.cosines import redraw_cosines, write_cosines


def test_by_hand():
    cosines = pairwise_cosines(np.array([[1, 0], [0, 2], [3, 3], [0, 0]]))
    assert (cosines.tokens, cosines.pairs) == (3, 3)
    root = 0.5**0.5
    assert cosines.mean == pytest.approx(2 * root / 3)
    assert cosines.deviation == pytest.approx(np.std([0, root, root]))
    assert (cosines.minimum, cosines.maximum) == pytest.approx((0, root))


def test_equals_the_plain_formula_across_blocks():
    rows = np.random.default_rng(0).normal(0.1, 1, (2_345, 12))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    want = (unit @ unit.T)[np.triu_indices(len(rows), 1)]
    got = pairwise_cosines(rows)
    assert got.pairs == len(want)
    assert (got.mean, got.deviation) == pytest.approx((want.mean(), want.std()), abs=1e-6)
    assert (got.minimum, got.maximum) == pytest.approx((want.min(), want.max()), abs=1e-5)
    counts, _ = np.histogram(want, BINS)
    # A cosine at the edge of a bin may fall on either side of it.
    assert np.abs(np.array(got.histogram) - counts).max() <= 10
    assert sum(got.histogram) == len(want)


@pytest.mark.parametrize("d", [64, 256])
def test_the_null_is_one_over_root_d(d):
    cosines = pairwise_cosines(untrained((3_000, d)))
    assert abs(cosines.mean) < 0.002
    assert cosines.deviation == pytest.approx(d**-0.5, rel=0.02)


def test_large_tables_are_sampled():
    assert pairwise_cosines(untrained((500, 8)), max_tokens=100).tokens == 100


def test_figures(tmp_path):
    cosines = asdict(pairwise_cosines(untrained((50, 8))))
    for draw in (draw_cosines, draw_cosine_ranges):
        draw({"all": {"aggregation": cosines, "untrained": cosines}}, tmp_path / "c.png")
        assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_keeps_the_histograms_and_is_drawn_again_from_them(tmp_path):
    statistics = write_cosines({"words": untrained((50, 8), seed=1)}, tmp_path)
    saved = json.loads((tmp_path / "cosines.json").read_text("utf-8"))
    own = saved["all words"]["words"]
    assert sum(own["histogram"]) == own["pairs"] == 50 * 49 / 2
    assert {**statistics["all words"]["words"], "histogram": own["histogram"]} == own
    first = (tmp_path / "cosines.png").read_bytes()
    (tmp_path / "cosines.png").unlink()
    redraw_cosines({"orthogonality": statistics}, tmp_path)
    assert (tmp_path / "cosines.png").read_bytes() == first
    (tmp_path / "cosines.json").unlink()  # of an older study, which did not write it
    redraw_cosines({"orthogonality": statistics}, tmp_path)
    assert (tmp_path / "cosines.png").read_bytes() != first


def test_every_dimension_has_an_untrained_embedding():
    one, two = untrained((50, 8), seed=1), untrained((40, 16), seed=2)
    (panel,) = {frozenset(models) for models in measure({"a": one, "b": two}).values()}
    assert panel == {"a", "b", "untrained, d 8", "untrained, d 16"}
    assert set(measure({"a": one})["all words"]) == {"a", "untrained"}
    with pytest.raises(ValueError, match="a: the model has 1 words"):
        measure({"a": one[:1]})


def test_word_vectors_are_those_of_words():
    texts = ["crude petroleum rose", "the grain fell"] * 10
    classifier = hyperagg.TextClassifier(d_model=4, epochs=1).fit(texts, [0, 1] * 10)
    vocabulary, table = classifier.tokenizer_.vocabulary, classifier.model_.embedding
    words = [i for i, entry in enumerate(vocabulary) if entry in " ".join(texts).split()]
    assert len(words) == 6 < len(vocabulary) - 1
    assert np.array_equal(classifier.word_vectors(), table[words])
