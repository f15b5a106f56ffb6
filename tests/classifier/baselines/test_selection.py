"""The selection of a baseline's parameters on held-out training rows."""

from __future__ import annotations

from typing import ClassVar

import pytest

from hyperagg._common.runs import Runs
from hyperagg.classifier.baselines import features, selection
from hyperagg.classifier.baselines.search import OneTwoFive, neighbors
from hyperagg.classifier.baselines.selection import held_out_folds, select_parameters

TEXTS = [f"text {i}" for i in range(400)]
LABELS = [str(i % 2) for i in range(400)]


class Model:
    """Right about the more rows the closer C is to the optimum; it only counts its calls."""

    AXES: ClassVar = {"C": OneTwoFive()}
    STARTS = ({"C": 1.0},)
    canonical = staticmethod(dict)
    optimum = 2000.0
    fitted: ClassVar[list[tuple[int, float]]] = []

    def __init__(self, C):
        self.C = C

    def fit(self, X, y):
        self.fitted.append((len(X), self.C))
        return self

    def predict(self, X):
        wrong = abs(position(self.C) - position(self.optimum))
        return [
            LABELS[TEXTS.index(text)] if i >= wrong else "no such label" for i, text in enumerate(X)
        ]


def position(value):
    return [OneTwoFive()._at(i) for i in range(-30, 31)].index(value)


@pytest.fixture(autouse=True)
def fitted(monkeypatch):
    monkeypatch.setattr(Model, "fitted", [])
    return Model.fitted


def test_the_best_is_never_at_an_edge_of_what_was_tried(fitted):
    folds = held_out_folds(TEXTS, LABELS, count=1)
    found = select_parameters(Model, folds)
    assert found["parameters"] == {"C": 2000.0} and found["score"] == 1.0
    tried = {C for _, C in Model.fitted}
    assert {each["C"] for each in neighbors(found["parameters"], Model.AXES)} <= tried
    assert found["candidates"] == len(Model.fitted) == len(tried)
    assert {rows for rows, _ in Model.fitted} == {360} and found["held_out_rows"] == 40


def test_a_search_that_was_killed_repeats_nothing_and_ends_the_same(tmp_path, monkeypatch):
    folds = held_out_folds(TEXTS, LABELS, count=1)
    whole = select_parameters(Model, folds)
    all_candidates = list(Model.fitted)
    Model.fitted.clear()

    class Killed(BaseException):
        pass

    predict = Model.predict

    def killed(self, X):
        if len(Model.fitted) == 4:
            raise Killed
        return predict(self, X)

    monkeypatch.setattr(Model, "predict", killed)
    with pytest.raises(Killed):
        select_parameters(Model, folds, runs=Runs(tmp_path / "runs.json", "s", resume=False))
    monkeypatch.setattr(Model, "predict", predict)
    runs = Runs(tmp_path / "runs.json", "s", resume=True)
    assert len(runs.done) == 3
    again = select_parameters(Model, folds, runs=runs)
    # Only the candidate that was killed is trained again.
    assert Model.fitted == [*all_candidates[:4], *all_candidates[3:]]
    assert again == {**whole, "seconds": again["seconds"]}


def test_the_search_starts_from_the_nearest_values_of_further_starts(fitted):
    folds = held_out_folds(TEXTS, LABELS, count=1)
    found = select_parameters(Model, folds, more_starts=[{"C": 2345.6}])
    assert found["parameters"] == {"C": 2000.0}
    assert (360, 2000.0) in fitted


def test_a_large_set_is_searched_on_a_subsample_and_checked_on_all_rows(monkeypatch):
    monkeypatch.setattr(features, "SUBSAMPLE", 100)
    monkeypatch.setattr(selection, "SUBSAMPLE", 100)
    lines = []
    folds = held_out_folds(TEXTS, LABELS, count=1)
    found = select_parameters(Model, folds, name="model", report=lines.append)
    assert found["parameters"] == {"C": 2000.0}
    rows = [rows for rows, _ in Model.fitted]
    assert rows == [100] * found["candidates_subsample"] + [360] * 3
    assert found["candidates"] == 3  # the best and both of its neighbors
    assert len(lines) == len(rows) and "neighbors are left" in lines[-1]


def test_small_sets_have_several_folds_with_a_thousand_held_out_rows():
    texts, labels = TEXTS * 10, LABELS * 10
    assert [len(fold.held_out_texts) for fold in held_out_folds(texts, labels)] == [400] * 3
    assert len(held_out_folds(TEXTS, LABELS)) == 5
    assert len(held_out_folds(texts * 3, labels * 3)) == 1
    for fold in held_out_folds(TEXTS, LABELS):
        assert not set(fold.texts) & set(fold.held_out_texts)


def test_without_validation_rows_the_first_start_is_selected(fitted):
    assert held_out_folds(["a"], ["b"]) == []
    found = select_parameters(Model, [])
    assert found["parameters"] == {"C": 1.0} and found["score"] is None
    assert Model.fitted == []
