"""The selection of a baseline's parameters on held-out training rows."""

from __future__ import annotations

from typing import ClassVar

import pytest

from hyperagg._common.runs import Runs
from hyperagg.classifier.baselines import selection
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.baselines.search import Diverged, OneTwoFive, Steps, neighbors
from hyperagg.classifier.baselines.selection import held_out_folds, select_parameters

TEXTS = [f"text {i}" for i in range(400)]
LABELS = [str(i % 2) for i in range(400)]


class Model:
    """Right about the more rows the closer C is to the optimum; it only counts its calls."""

    AXES: ClassVar = {"C": OneTwoFive()}
    SCALING = ("C",)
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


def test_a_large_set_is_searched_on_a_sample_and_again_on_more_rows(monkeypatch):
    monkeypatch.setattr(selection, "_SAMPLE", 100)
    monkeypatch.setattr(selection, "_MAX_ROWS", 200)
    lines = []
    folds = held_out_folds(TEXTS, LABELS, count=1)
    found = select_parameters(Model, folds, name="model", report=lines.append)
    assert found["parameters"] == {"C": 2000.0}
    rows = [rows for rows, _ in Model.fitted]
    assert rows == [100] * found["candidates_sample"] + [200] * 3
    assert found["candidates"] == 3  # the best and both of its neighbors
    assert found["training_rows"] == 200
    assert len(lines) == len(rows) and "candidate 3, best 100.00 %" in lines[-1]
    assert found["is_complete"]


def test_only_the_axes_that_depend_on_the_number_of_rows_are_followed_on_more_rows(monkeypatch):
    class Wide(Model):
        AXES: ClassVar = {"C": OneTwoFive(), "size": Steps(1, 3)}
        STARTS = ({"C": 1000.0, "size": 2}, {"C": 1000.0, "size": 3})

        def __init__(self, C, size):
            super().__init__(C)
            self.size = size

        def fit(self, X, y):
            self.fitted.append((len(X), self.size))
            return self

    monkeypatch.setattr(selection, "_SAMPLE", 100)
    found = select_parameters(Wide, held_out_folds(TEXTS, LABELS, count=1))
    assert {size for rows, size in Wide.fitted if rows == 100} == {1, 2, 3}
    # The best of both starts are compared; only "C" changes.
    sizes = [size for rows, size in Wide.fitted if rows == 360]
    assert sizes == [2] * 3 + [3]
    assert found["candidates"] == 4 and found["parameters"] == {"C": 2000.0, "size": 2}


def test_epochs_start_from_as_many_steps_on_more_rows(monkeypatch):
    class Trained(Model):
        AXES: ClassVar = {"epochs": OneTwoFive(integer=True)}
        SCALING = ("epochs",)
        STARTS = ({"epochs": 1000},)

        def __init__(self, epochs):
            super().__init__(epochs)

    monkeypatch.setattr(selection, "_SAMPLE", 36)
    select_parameters(Trained, held_out_folds(TEXTS, LABELS, count=1))
    # On the sample 2,000 are the best, so with ten times as many rows 200 come first.
    assert next(epochs for rows, epochs in Trained.fitted if rows == 360) == 200


def test_a_sample_has_rows_of_every_class():
    labels = ["a"] * 300 + ["b"] * 99 + ["c"]
    fold = Fold(TEXTS, labels, [], [])
    sample = fold.sample(40)
    counts = {label: sample.labels.count(label) for label in "abc"}
    assert counts["c"] == 1 and 29 <= counts["a"] <= 31 and 9 <= counts["b"] <= 11
    assert [labels[TEXTS.index(text)] for text in sample.texts] == sample.labels
    assert fold.sample(400) is fold
    multi_label = Fold(TEXTS, [(label, "d") for label in labels], [], [])
    assert {row[0] for row in multi_label.sample(40).labels} == {"a", "b", "c"}


def test_small_sets_have_several_folds_with_a_thousand_held_out_rows():
    texts, labels = TEXTS * 10, LABELS * 10
    assert [len(fold.held_out_texts) for fold in held_out_folds(texts, labels)] == [400] * 3
    assert len(held_out_folds(TEXTS, LABELS)) == 5
    assert len(held_out_folds(texts * 3, labels * 3)) == 1
    for fold in held_out_folds(TEXTS, LABELS):
        assert not set(fold.texts) & set(fold.held_out_texts)


@pytest.fixture
def one_second_each(monkeypatch):
    """Every candidate takes one second."""
    clock = iter(range(10_000))
    monkeypatch.setattr(selection.time, "perf_counter", lambda: float(next(clock)))


@pytest.mark.usefixtures("one_second_each")
def test_a_search_ends_at_its_time_limit_with_the_best_so_far():
    """It went on until no neighbor was better, for minutes on two thousand rows."""
    folds, lines = held_out_folds(TEXTS, LABELS, count=1), []
    found = select_parameters(Model, folds, seconds=3, report=lines.append)
    # From 1, the first neighbor is 2 and that of 2 is 5.
    assert Model.fitted == [(360, 1.0), (360, 2.0), (360, 5.0)]
    assert found["parameters"] == {"C": 5.0} and found["candidates"] == 3
    assert found["seconds"] == 3 and not found["is_complete"]
    assert [line.split(", ")[-2:] for line in lines] == [
        [f"{k} s so far", "limit 3 s"] for k in (1, 2, 3)
    ]
    assert select_parameters(Model, folds, seconds=1000)["is_complete"]


@pytest.mark.usefixtures("one_second_each")
def test_half_of_the_time_is_for_the_sample(monkeypatch):
    monkeypatch.setattr(selection, "_SAMPLE", 100)
    folds = held_out_folds(TEXTS, LABELS, count=1)
    found = select_parameters(Model, folds, seconds=4)
    assert [rows for rows, _ in Model.fitted] == [100, 100, 360, 360]
    assert (found["candidates_sample"], found["candidates"]) == (2, 2)
    assert found["training_rows"] == 360 and not found["is_complete"]
    # One candidate that takes all the time is not followed by another on more rows.
    found = select_parameters(Model, folds, seconds=0.5)
    assert found["parameters"] == {"C": 1.0} and found["training_rows"] == 100
    assert (found["candidates_sample"], found["candidates"]) == (1, 0)


@pytest.mark.usefixtures("one_second_each")
def test_a_resumed_search_has_the_time_that_is_left(tmp_path):
    folds = held_out_folds(TEXTS, LABELS, count=1)
    runs = Runs(tmp_path / "runs.json", "s", resume=False)
    select_parameters(Model, folds, seconds=2, runs=runs)
    Model.fitted.clear()
    found = select_parameters(Model, folds, seconds=3, runs=runs)
    assert Model.fitted == [(360, 5.0)] and found["candidates"] == 3


def test_parameters_that_diverge_are_not_selected(monkeypatch):
    fit = Model.fit

    def diverge(self, X, y):
        if self.C >= 50:
            raise Diverged("NaN")
        return fit(self, X, y)

    monkeypatch.setattr(Model, "fit", diverge)
    found = select_parameters(Model, held_out_folds(TEXTS, LABELS, count=1))
    assert found["parameters"] == {"C": 20.0} and found["is_complete"]


def test_without_time_the_first_start_is_selected():
    folds = held_out_folds(TEXTS, LABELS, count=1)
    found = select_parameters(Model, folds, seconds=0)
    assert found["parameters"] == {"C": 1.0} and found["score"] is None
    assert Model.fitted == [] and not found["is_complete"]


def test_without_validation_rows_the_first_start_is_selected(fitted):
    assert held_out_folds(["a"], ["b"]) == []
    found = select_parameters(Model, [])
    assert found["parameters"] == {"C": 1.0} and found["score"] is None
    assert Model.fitted == []
