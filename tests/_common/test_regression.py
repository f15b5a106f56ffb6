"""The metrics of regressors, their standard errors, and the page that shows them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from hyperagg._common.pages.explanations import ExplainedRow
from hyperagg._common.pages.regression import regression_page, unexplained_value
from hyperagg._common.regression import RegressionEvaluation, regression_metrics


def made_up(rows: int, seed: int = 0) -> RegressionEvaluation:
    """Skewed values and errors that grow with them, which formulas for normal errors miss."""
    rng = np.random.default_rng(seed)
    truth = rng.exponential(2, rows)
    return RegressionEvaluation(0.7 * truth + rng.normal(0, 0.2 + 0.3 * truth), truth)


def test_standard_errors_are_those_of_the_bootstrap():
    evaluation = made_up(800)
    rng = np.random.default_rng(1)
    resampled = []
    for _ in range(3_000):
        rows = rng.integers(0, 800, 800)
        resampled.append(regression_metrics(evaluation.predicted[rows], evaluation.truth[rows]))
    for name, error in evaluation.standard_errors().items():
        bootstrap = np.std([each[name] for each in resampled], ddof=1)
        assert error == pytest.approx(bootstrap, rel=0.1), name


def test_standard_errors_cover_the_true_metrics():
    true = made_up(1_000_000, seed=9).metrics
    covered = dict.fromkeys(true, 0)
    for seed in range(200):
        found = made_up(500, seed)
        for name, error in found.standard_errors().items():
            covered[name] += abs(found.metrics[name] - true[name]) < 1.96 * error
    # 95 % of 200 are 190; three standard deviations are 9, and skewed metrics need many rows.
    assert min(covered.values()) >= 175 and max(covered.values()) <= 199, covered


def test_what_is_not_defined_is_left_out():
    one = RegressionEvaluation(np.array([1.0]), np.array([2.0]))
    assert one.to_dict()["standard_errors"] == {"r2": None, "mae": None, "rmse": None}
    constant = RegressionEvaluation(np.array([1.0, 1.0]), np.array([1.0, 1.0])).to_dict()
    assert constant["r2"] == 1 and constant["standard_errors"] == {"r2": None, "mae": 0, "rmse": 0}
    json.dumps(constant, allow_nan=False)
    for evaluation in (one, RegressionEvaluation(np.ones(3), np.ones(3))):
        assert "root mean squared error" in regression_page("A", evaluation, [])


def test_large_values_have_finite_metrics():
    truth = np.array([-1e100, 1e100, 3e99, 0.0])
    for predicted in (truth / 2, np.zeros(4)):
        found = RegressionEvaluation(predicted, truth).to_dict()
        values = [found["r2"], found["mae"], found["rmse"], *found["standard_errors"].values()]
        assert np.isfinite(values).all()


def test_the_worst_rows_come_first():
    evaluation = RegressionEvaluation(np.array([0.0, 5, 1, 0]), np.array([0.0, 1, 4, 1]))
    assert evaluation.worst_rows(3) == [1, 2, 3]
    np.testing.assert_array_equal(evaluation.residuals, [0, -4, 3, 1])
    assert unexplained_value(evaluation, 1, "x: row 2").verdict == "predicted: 5; true: 1"


def test_the_page_shows_the_rows_at_their_places_and_text_as_text():
    evaluation = RegressionEvaluation(np.array([1.0, 2, 3]), np.array([1.0, 2, 5]))
    row = ExplainedRow("<b>row</b> 3", "predicted: 3; true: 5", [])
    page = regression_page("<i>title", evaluation, [row], ["a & b"])
    assert "<b>row" not in page and "&lt;b&gt;row" in page
    assert "<i>title" not in page and "a &amp; b" in page
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', page)
    assert len(circles) == 6  # three in each diagram
    (left, top), (middle, lower), (right, higher) = (map(float, c) for c in circles[:3])
    assert left < middle < right and top > lower > higher
    # The first two predictions are right: they lie on the diagonal, from corner to corner.
    x1, y1, x2, y2 = map(
        float,
        re.search(
            r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"/>', page
        ).groups(),
    )
    for x, y in ((left, top), (middle, lower)):
        assert (y - y1) / (y2 - y1) == pytest.approx((x - x1) / (x2 - x1), abs=1e-2)


def test_many_rows_are_thinned_out():
    page = regression_page("many", made_up(50_000), [])
    assert page.count("<circle") == 4_000
    assert "2,000 of 50,000 rows are shown" in page and len(page) < 400_000
