"""The estimators: fit, predict, evaluate and explain, on written and spoken digits."""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg._common.evaluation import evaluate_logits
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg._common.split import train_validation_split
from hyperagg.multimodal import MultimodalClassifier, MultimodalRegressor, base_estimator

COLUMNS = {
    "image": "image",
    "audio": "audio",
    "word": "text",
    "parity": "category",
    "ink": "number",
}
SMALL = dict(d_model=24, hidden_dim=32, epochs=6)


def take(columns, part):
    return {name: column[part] for name, column in columns.items()}


def make(columns=COLUMNS, **options):
    return MultimodalClassifier(columns, **SMALL | options)


@pytest.fixture(scope="module")
def model(digits):
    columns, labels = digits
    return make().fit(take(columns, slice(300)), labels[:300], seed=1)


def test_it_learns_and_any_column_may_be_missing(model, digits):
    columns, labels = digits
    test = take(columns, slice(300, None))
    scores = model.evaluate(test, labels[300:])
    assert set(scores) == {"accuracy", "macro_f1", "expected_calibration_error"}
    assert scores["accuracy"] > 0.9
    assert len(model.history_.score) == 6 and model.history_.seconds > 0
    for name in ("image", "audio"):
        kept = [i for i, cell in enumerate(test[name]) if cell is not None]
        alone = {name: [test[name][i] for i in kept]}
        scores = model.evaluate(alone, [labels[300:][i] for i in kept])
        assert scores["accuracy"] > 0.6, name
    np.testing.assert_allclose(model.predict_proba(test).sum(1), 1)


def test_contributions_sum_to_the_logits_and_have_names(model, digits):
    columns, _ = digits
    for i in range(5):
        row = {name: column[i] for name, column in columns.items()}
        explanation = model.explain(row)
        total = explanation.bias + sum(explanation.by_modality().values())
        np.testing.assert_allclose(total, explanation.logits, atol=2e-4)
        np.testing.assert_allclose(
            explanation.logits, model.logits(take(columns, slice(i, i + 1)))[0]
        )
        assert set(explanation.tokens) == {n for n, cell in row.items() if cell is not None}
        parts = explanation.for_label(explanation.label)
        for name, tokens in explanation.tokens.items():
            assert len(tokens) == len(explanation.contributions[name]) == len(parts[name])
        if "word" in explanation.tokens:
            assert "digit" in explanation.tokens["word"]
    with pytest.raises(ValueError, match="label='ten': expected one of one, two, zero"):
        explanation.for_label("ten")
    first, _ = model.explain(take(columns, slice(2)))
    np.testing.assert_array_equal(first.logits, model.explain(take(columns, slice(1)))[0].logits)


def test_a_single_row_gives_a_single_answer(model, digits):
    columns, _ = digits
    table = take(columns, slice(20))
    labels, probabilities = model.predict(table), model.predict_proba(table)
    for i in (0, 7):
        row = {name: column[i] for name, column in table.items()}
        assert model.predict(row) == labels[i]
        np.testing.assert_allclose(model.predict_proba(row), probabilities[i], atol=1e-5)
        assert model.logits(row).shape == (3,)
    assert model.predict({"image": columns["image"][0]}) in model.classes_
    assert model.predict({"audio": np.zeros(4000, np.int16)}) in model.classes_
    assert model.predict({"word": "the digit two"}) == "two"


def test_top_k_and_threshold(model, digits):
    columns, _ = digits
    table = take(columns, slice(20))
    probabilities = model.predict_proba(table)
    for row, pairs in zip(probabilities, model.predict(table, top_k=2)):
        assert [p for _, p in pairs] == pytest.approx(sorted(row, reverse=True)[:2])
        assert pairs[0][0] == model.classes_[int(row.argmax())]
    for row, labels in zip(probabilities, model.predict(table, threshold=0.2)):
        assert set(labels) == {model.classes_[c] for c in np.flatnonzero(row > 0.2)}
    row = {name: column[0] for name, column in table.items()}
    assert len(model.predict(row, top_k=3)) == 3


def test_same_seed_gives_the_same_weights_resumed_or_not(digits, tmp_path, monkeypatch):
    columns, labels = digits
    kinds = {"image": "image", "word": "text"}
    part = take(columns, slice(120)), labels[:120]
    options = dict(epochs=3, batch_size=32)
    random_state = torch.get_rng_state()
    whole = make(kinds, **options).fit(*part)
    assert torch.equal(random_state, torch.get_rng_state())
    monkeypatch.setattr("hyperagg._common.torch_trainer.CHECKPOINT_SECONDS", 0.0)
    file = tmp_path / "checkpoint.safetensors"

    def stop(progress):
        if progress.fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(kinds, **options).fit(*part, checkpoint=file, callbacks=[stop])
    with pytest.raises(ValueError, match="other"):
        make(kinds, **options).fit(*part, seed=2, checkpoint=file, resume=True)
    with pytest.raises(ValueError, match="other"):
        weights = np.linspace(0.5, 1, 120)
        make(kinds, **options).fit(*part, sample_weight=weights, checkpoint=file, resume=True)
    resumed = make(kinds, **options).fit(*part, checkpoint=file, resume=True)
    assert file.exists()
    resumed.save_pretrained(tmp_path / "model")
    assert not file.exists()  # once the model is saved
    np.testing.assert_array_equal(whole.logits(part[0]), resumed.logits(part[0]))
    assert whole.history_.loss == resumed.history_.loss
    assert whole.history_.temperature == resumed.history_.temperature != 1


def noisy_notes(num_rows, seed):
    """Rows whose label follows from a word and a number, but in a quarter of them at random."""
    rng = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(300)])
    notes, sizes, labels = [], [], []
    for _ in range(num_rows):
        label = int(rng.integers(2))
        sizes.append(float(rng.normal(label)))
        notes.append(" ".join([*rng.choice(words, 6), ["low", "high"][label]]))
        labels.append(["no", "yes"][label if rng.random() > 0.25 else int(rng.integers(2))])
    return {"note": notes, "size": sizes}, labels


@pytest.fixture(scope="module")
def overconfident():
    """A model whose words have learned the noise of its training rows."""
    model = MultimodalClassifier({"note": "text", "size": "number"}, d_model=16, epochs=30)
    return model.fit(*noisy_notes(600, 0), validation=noisy_notes(600, 1), seed=0)


def test_probabilities_match_frequencies(overconfident):
    history = overconfident.history_
    before, after = history.expected_calibration_error
    assert history.num_validation == 600 and history.temperature > 1.5
    # The best epoch is the one whose calibrated probabilities say most about the held-out rows.
    losses = overconfident.evaluation(*noisy_notes(600, 1)).losses
    assert max(history.criterion) == pytest.approx(-losses.mean(), abs=1e-5)
    assert history.best_epoch == int(np.argmax(history.criterion))
    X, y = noisy_notes(1000, 2)
    error = overconfident.evaluate(X, y)["expected_calibration_error"]
    raw = LabelDecoder(overconfident.classes_)
    logits = overconfident.logits(X)
    undivided = evaluate_logits(raw, logits * history.temperature, y).metrics
    assert undivided["expected_calibration_error"] > 1.5 * error
    assert before > 1.5 * after and error < 0.06
    np.testing.assert_allclose(overconfident.predict_proba(X), raw.probabilities(logits))
    explanation = overconfident.explain({"note": X["note"][0], "size": X["size"][0]})
    total = explanation.bias + sum(explanation.by_modality().values())
    np.testing.assert_allclose(total, logits[0], atol=1e-4)


def test_the_calibration_is_saved(overconfident, tmp_path):
    overconfident.save_pretrained(tmp_path)
    loaded = MultimodalClassifier.from_pretrained(tmp_path)
    X, _ = noisy_notes(50, 3)
    np.testing.assert_array_equal(overconfident.predict_proba(X), loaded.predict_proba(X))
    assert loaded.history_ == overconfident.history_
    error = overconfident.history_.expected_calibration_error[1]
    assert f"expected calibration error there: {error:.4f}" in (tmp_path / "README.md").read_text()


def test_without_held_out_rows_nothing_is_calibrated():
    model = MultimodalClassifier({"a": "number"}, d_model=4, epochs=1, validation_fraction=0)
    history = model.fit(*XY).history_
    assert history.temperature == 1 and history.expected_calibration_error == []
    model = MultimodalRegressor({"a": "number"}, d_model=4, epochs=1)
    history = model.fit(XY[0], [0.0, 1.0] * 20).history_
    assert history.temperature == 1 and history.num_validation == 4


def test_callbacks_get_the_progress_of_every_step():
    seen = []
    model = make({"ink": "number"}, epochs=2, batch_size=50, validation_fraction=0.5)
    model.fit({"ink": [1.0, 2.0] * 100}, ["a", "b"] * 100, callbacks=[seen.append])
    assert [p.epoch for p in seen] == [0, 0, 1, 1] and seen[-1].fraction == 1
    assert seen[0].validation_score is None and seen[-1].validation_score is not None
    with pytest.raises(TypeError, match="callbacks: 3: expected functions"):
        model.fit({"ink": [1.0, 2.0]}, ["a", "b"], callbacks=[3])


def test_a_regressor_predicts_a_continuous_target(digits):
    columns, _ = digits
    ink = [float(image.mean()) for image in columns["image"]]
    model = MultimodalRegressor({"image": "image"}, **SMALL | dict(epochs=8))
    model.fit({"image": columns["image"][:300]}, ink[:300])
    test = {"image": columns["image"][300:]}
    scores = model.evaluate(test, ink[300:])
    assert set(scores) == {"r2", "mae", "rmse"} and scores["r2"] > 0.8
    explanation = model.explain({"image": test["image"][0]})
    assert explanation.classes == ["value"]
    np.testing.assert_allclose(
        explanation.bias + explanation.contributions["image"].sum(0), explanation.logits
    )
    value = model.predict({"image": test["image"][0]})
    assert isinstance(value, float) and value == pytest.approx(explanation.logits[0])
    assert model.predict(test).shape == (100,)
    assert not hasattr(model, "classes_") and not hasattr(model, "predict_proba")
    with pytest.raises(ValueError, match="class_weight='balanced': expected None"):
        model.fit(test, ink[300:], class_weight="balanced")


def test_the_default_of_regression_on_texts_is_short_and_stops_early():
    rng = np.random.default_rng(0)
    words = np.array(["apple", "berry", "cherry", "date", "elder", "fig", "grape", "hazel"])
    texts = [" ".join(rng.choice(words, 4)) for _ in range(600)]
    noise = rng.normal(size=600).tolist()  # nothing to learn: R² falls from the first epochs on
    model = MultimodalRegressor({"note": "text"}, d_model=8).fit({"note": texts}, noise)
    history = model.history_
    assert len(history.score) < 34  # of as many as see 20,000 rows
    assert len(history.score) == history.best_epoch + 1 + 3
    values = [float(text.count("apple")) for text in texts]
    model.fit({"note": texts}, values)
    assert model.evaluate({"note": texts}, values)["r2"] > 0.6
    # Epochs that are given are all made.
    model = MultimodalRegressor({"note": "text"}, d_model=8, epochs=9).fit({"note": texts}, noise)
    assert len(model.history_.score) == 9


def test_the_default_of_labels_with_texts_is_short_and_stops_early():
    rng = np.random.default_rng(0)
    words = np.array(["apple", "berry", "cherry", "date", "elder", "fig", "grape", "hazel"])
    texts = [" ".join(rng.choice(words, 4)) for _ in range(600)]
    noise = rng.integers(2, size=600).tolist()  # nothing to learn
    model = MultimodalClassifier({"note": "text"}, d_model=8).fit({"note": texts}, noise)
    history = model.history_
    assert len(history.score) == history.best_epoch + 1 + 3 < 60
    assert history.temperature > 2  # nothing is known, so nothing is certain
    labels = [text.count("apple") > 0 for text in texts]
    model.fit({"note": texts}, [str(label) for label in labels])
    assert model.evaluate({"note": texts}, [str(label) for label in labels])["accuracy"] > 0.9
    # Images and audio take more epochs, and epochs that are given are all made.
    for kinds, epochs, expected in (
        ({"note": "text", "photo": "image"}, None, (50, None)),
        ({"note": "text", "size": "number"}, None, (9, 3)),
        ({"size": "number"}, None, (50, 10)),
        ({"note": "text"}, 7, (7, None)),
    ):
        config = MultimodalClassifier(kinds, epochs=epochs)._training_config(6_000)
        assert (config.epochs, config.patience) == expected, kinds


def test_regression_metrics_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    from hyperagg._common.regression import regression_metrics

    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(3, 2, (2, 50))
    scores = regression_metrics(predicted, truth)
    assert scores["r2"] == pytest.approx(metrics.r2_score(truth, predicted))
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert scores["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert regression_metrics(np.ones(3), np.ones(3))["r2"] == 1
    assert regression_metrics(np.array([1.0, 2, 1]), np.ones(3))["r2"] == 0


@pytest.mark.parametrize("fusion", ["concatenation", "attention"])
def test_baselines_learn_but_are_not_explained(digits, fusion, tmp_path):
    columns, labels = digits
    kinds = {"image": "image", "audio": "audio"}
    model = make(kinds, fusion=fusion, epochs=1).fit(take(columns, slice(64)), labels[:64])
    model.save_pretrained(tmp_path)
    loaded = MultimodalClassifier.from_pretrained(tmp_path)
    np.testing.assert_allclose(model.logits(columns), loaded.logits(columns), atol=1e-5)
    with pytest.raises(ValueError, match="only fusion='sum'"):
        model.explain({"image": columns["image"][0]})


# Two rows that a model without information would have to answer alike.
XY = {"a": [0.0] * 40}, ["rare"] * 8 + ["common"] * 32


def weighted(**options):
    arguments = dict(d_model=4, epochs=40, learning_rate=0.03)
    # All rows are trained on, and none calibrate the probabilities, which are those of the loss.
    model = MultimodalClassifier({"a": "number"}, **arguments, validation_fraction=0)
    return model.fit(*XY, **options).predict_proba({"a": [0.0]})[0]


def test_class_weight_weighs_the_loss():
    common, _ = weighted()
    assert common == pytest.approx(0.8, abs=0.08)
    _, rare = weighted(class_weight="balanced")
    assert rare == pytest.approx(0.5, abs=0.08)
    _, rare = weighted(class_weight={"rare": np.float32(8)})
    assert rare == pytest.approx(2 / 3, abs=0.08)


def test_sample_weight_weighs_the_loss():
    _, rare = weighted(sample_weight=[4.0] * 8 + [1.0] * 32)
    assert rare == pytest.approx(0.5, abs=0.08)
    np.testing.assert_array_equal(weighted(), weighted(sample_weight=np.ones(40)))
    _, rare = weighted(sample_weight=[0.0] * 8 + [1.0] * 32)
    assert rare < 0.2
    y = np.repeat([0.0, 1.0], 20)
    options = dict(d_model=4, epochs=40, learning_rate=0.02, validation_fraction=0)
    model = MultimodalRegressor({"a": "number"}, **options)
    model.fit({"a": [0.0] * 40}, y, sample_weight=np.where(y == 0, 0.2, 1.8))
    assert model.predict({"a": 0.0}) == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (dict(class_weight="heavy"), "class_weight='heavy': expected \"balanced\" or"),
        (dict(class_weight={"none": 1}), "class_weight: 'none': expected one of the classes"),
        (dict(class_weight={"rare": 0}), r"class_weight\['rare'\]=0: expected a finite number >="),
        (dict(sample_weight=[1.0]), r"sample_weight: shape \(1,\): expected one number per row"),
        (dict(sample_weight=[-1.0] * 40), "sample_weight: row 0: -1: expected a finite number"),
        (dict(sample_weight=[0.0] * 40), "sample_weight: all weights are 0"),
        (dict(sample_weight=["x"] * 40), "sample_weight: expected one number per row"),
        (dict(validation=XY[0]), "expected a pair"),
        (dict(validation=(XY[0], ["none"] * 40)), "validation y: row 0: 'none': expected one of"),
        (dict(seed=-1), "seed=-1: expected an integer from 0"),
        (dict(resume=True), "resume=True: expected the checkpoint to resume from"),
        (dict(checkpoint="."), "checkpoint: . is a folder; expected a file"),
        (dict(progress="x"), "progress='x': expected True or False"),
        (dict(callbacks=1), "callbacks=1: expected a list of functions"),
        (dict(callbacks=["x"]), "callbacks: 'x': expected functions"),
    ],
)
def test_arguments_of_fit_are_checked(options, error):
    with pytest.raises((ValueError, TypeError), match=error):
        MultimodalClassifier({"a": "number"}).fit(*XY, **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (dict(d_model=0), "d_model=0: expected an integer from 1"),
        (dict(d_model=2.5), "d_model=2.5: expected an integer"),
        (dict(hidden_dim=True), "hidden_dim=True: expected an integer"),
        (dict(sample_rate=10), "sample_rate=10: expected an integer from 1000"),
        (dict(fusion="mean"), 'fusion=\'mean\': expected one of "sum", "concatenation"'),
        (dict(epochs=0), "epochs=0: expected an integer >= 1"),
        (dict(learning_rate=0), "learning_rate=0: expected a finite number > 0"),
        (dict(embedding_learning_rate="x"), "embedding_learning_rate='x': expected a finite"),
        (dict(batch_size=0), "batch_size=0: expected an integer"),
        (dict(weight_decay=-1), "weight_decay=-1: expected a finite number >= 0"),
        (dict(dropout=1), "dropout=1: expected a finite number >= 0 and < 1"),
        (dict(augment=1), "augment=1: expected True or False"),
        (dict(validation_fraction=1.0), "validation_fraction=1.0: expected a finite number >= 0"),
        (dict(hidden=3), "unexpected keyword argument 'hidden'"),
    ],
)
@pytest.mark.parametrize("estimator", [MultimodalClassifier, MultimodalRegressor])
def test_arguments_are_checked_in_the_constructor(estimator, options, error):
    with pytest.raises((ValueError, TypeError), match=error):
        estimator({"a": "number"}, **options)


def test_columns_are_checked_in_the_constructor():
    with pytest.raises(ValueError, match=r"columns\['a'\]='video': expected one of .text"):
        MultimodalClassifier({"a": "video"})
    with pytest.raises(ValueError, match=r"columns=\{\}: expected at least one column"):
        MultimodalClassifier({})
    with pytest.raises(TypeError, match=r"columns=\['a'\]: expected a mapping from name to kind"):
        MultimodalClassifier(["a"])


def test_numpy_numbers_are_accepted():
    model = MultimodalClassifier(
        {"a": "number"}, d_model=np.int64(8), epochs=np.int32(1), dropout=np.float32(0.25)
    )
    assert type(model.d_model) is int and type(model.dropout) is float
    model.fit({"a": np.arange(4.0)}, np.array([0, 1, 0, 1]), seed=np.int64(3))
    assert model.classes_ == [0, 1] and type(model.classes_[0]) is int
    assert set(inspect.signature(MultimodalRegressor).parameters) == set(
        inspect.signature(MultimodalClassifier).parameters
    )


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.7, 0.0])
@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_as_many_rows_are_held_out_as_validation_fraction_says(fraction, strategy):
    classes = np.arange(200) % 2
    kept, held = train_validation_split(classes, fraction, 3, strategy)
    assert len(held) == round(200 * fraction) and len(kept) == 200 - len(held)
    assert not set(kept) & set(held)
    if strategy == "stratified":
        assert classes[held].sum() == len(held) / 2


@pytest.mark.parametrize("fraction", [0.4, 0.7])
def test_training_steps_follow_from_validation_fraction(fraction):
    steps = []
    model = MultimodalClassifier(
        {"a": "number"}, d_model=2, epochs=1, batch_size=1, validation_fraction=fraction
    )
    model.fit({"a": [0.0, 1.0] * 20}, ["a", "b"] * 20, callbacks=[steps.append])
    assert len(steps) == round(40 * (1 - fraction))


def test_validation_rows_are_used_instead():
    steps = []
    model = MultimodalClassifier({"a": "number"}, d_model=2, epochs=1, batch_size=1)
    model.fit({"a": [0.0, 1.0]}, ["a", "b"], validation=XY_VALIDATION, callbacks=[steps.append])
    assert len(steps) == 2 and len(model.history_.score) == 1


XY_VALIDATION = {"a": [0.0, 1.0, 1.0]}, ["a", "b", "b"]


def test_targets_are_checked():
    model = MultimodalClassifier({"a": "number"})
    with pytest.raises(ValueError, match="y: all labels are 'p'; a classifier needs"):
        model.fit({"a": [1, 2]}, ["p", "p"])
    with pytest.raises(ValueError, match="this MultimodalClassifier is not trained: call fit"):
        model.predict({"a": [1]})
    with pytest.raises(ValueError, match="not trained"):
        model.save_pretrained("nowhere")
    with pytest.raises(
        ValueError, match=r"y: row 1: 1e\+300: expected a finite number between -1e100"
    ):
        MultimodalRegressor({"x": "number"}).fit({"x": [1, 2] * 20}, [0.0, 1e300] * 20)
    with pytest.raises(TypeError, match="y: row 1: 'q': expected a finite number"):
        MultimodalRegressor({"a": "number"}).fit({"a": [1, 2]}, [1.0, "q"])
    with pytest.raises(ValueError, match="y: row 0: nan: expected a finite number"):
        MultimodalRegressor({"a": "number"}).fit({"a": [1, 2]}, [float("nan"), 1.0])
    with pytest.raises(ValueError, match=r"y: row 0: 1000.*: expected a finite number"):
        MultimodalRegressor({"a": "number"}).fit({"a": [1, 2]}, [10**400, 1.0])
    with pytest.raises(TypeError, match=r"y: row 1: expected a label .*got float \(2.5\)"):
        model.fit({"a": [1, 2]}, [1, 2.5])
    with pytest.raises(ValueError, match="y: row 1: the label is missing"):
        model.fit({"a": [1, 2]}, ["p", None])
    with pytest.raises(ValueError, match="y: expected one target per row, got 1 for 2"):
        model.fit({"a": [1, 2]}, ["p"])
    with pytest.raises(TypeError, match="y: str: expected one value per row"):
        model.fit({"a": [1, 2]}, "pq")


def test_a_fit_that_fails_leaves_the_model_as_it_was(model):
    before = model.classes_, model.network_
    with pytest.raises(ValueError, match="is empty in every row"):
        model.fit({name: [None, None] for name in COLUMNS}, ["p", "q"])
    assert (model.classes_, model.network_) == before


def test_without_pytorch_the_extra_is_named(monkeypatch):
    for name in ("estimator", "base_estimator"):
        monkeypatch.delitem(sys.modules, f"hyperagg.multimodal.{name}")
        monkeypatch.delattr(hyperagg.multimodal, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"needs torch: pip install 'hyperagg\[multimodal\]'"):
        hyperagg.multimodal.MultimodalClassifier  # noqa: B018


@pytest.mark.parametrize("estimator", [MultimodalClassifier, MultimodalRegressor])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_table_of_targets_is_refused(estimator, sparse):
    y = np.eye(2, dtype=int)
    if sparse:
        y = pytest.importorskip("scipy.sparse").csr_matrix(y)
    with pytest.raises(TypeError, match=r"y: shape \(2, 2\): expected one column"):
        estimator({"a": "number"}).fit({"a": [1, 2]}, y)


@pytest.mark.parametrize("y", [[True, False], np.array([True, False])])
def test_bool_targets_are_refused(y):
    with pytest.raises(TypeError, match=r"y: row 0: expected a label .*got bool"):
        MultimodalClassifier({"a": "number"}).fit({"a": [1, 2]}, y)
    with pytest.raises(TypeError, match="y: row 0: True: expected a finite number"):
        MultimodalRegressor({"a": "number"}).fit({"a": [1, 2]}, y)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_a_cell_that_cannot_be_a_path_is_named_and_cut(kind):
    cells = ["a review, not the path of a file " * 50] * 2
    with pytest.raises(ValueError, match=r"row 0, column 'a': .*…: the file does not") as error:
        MultimodalClassifier({"a": kind}).fit({"a": cells}, ["p", "q"])
    assert len(str(error.value)) < 300


def test_repr_shows_the_arguments_that_differ_from_the_defaults():
    columns = {"a": "number"}
    model = MultimodalClassifier(columns, epochs=3)
    assert repr(model) == "MultimodalClassifier(columns={'a': 'number'}, epochs=3)"
    assert repr(MultimodalRegressor(columns)) == "MultimodalRegressor(columns={'a': 'number'})"


@pytest.mark.parametrize("options", [{"progress": "x"}, {"callbacks": 1}, {"checkpoint": "."}])
def test_arguments_of_fit_are_checked_before_files_are_read(options):
    model = MultimodalClassifier({"a": "image"})
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))}[=:]"):
        model.fit({"a": ["nowhere.png"] * 4}, ["p", "q"] * 2, **options)


def _interrupt(progress):
    # The checkpoint of a step is written after the callbacks.
    if progress.fraction > 0.4:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changed",
    [
        {"text": 1},
        {"number": 1},
        {"category": 1},
        {"image": 1},
        {"audio": 1},
        {"validation": {"number": [4.0, 3.0]}},
        {"sample_weight": [1.0, 2.0, 2.0, 1.0] * 4},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_checkpoint_of_other_data_is_refused(changed, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperagg._common.torch_trainer.CHECKPOINT_SECONDS", 0.0)
    rng = np.random.default_rng(0)
    table = {
        "text": ["a", "b b", "a", "b"] * 4,
        "number": [1.0, 2.0, 3.0, 4.0] * 4,
        "category": ["u", "v", "u", "v"] * 4,
        "image": list(rng.integers(0, 255, (16, 6, 6), dtype=np.uint8)),
        "audio": list(rng.standard_normal((16, 400)).astype(np.float32)),
    }
    options = {
        "sample_weight": [2.0, 1.0] * 8,
        "validation": ({name: column[:2] for name, column in table.items()}, ["p", "q"]),
        "checkpoint": tmp_path / "checkpoint",
        "progress": False,
    }
    kinds = {name: name for name in table}
    model = MultimodalClassifier(kinds, d_model=4, hidden_dim=4, epochs=2, batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table, ["p", "q"] * 8, **options, callbacks=[_interrupt])
    assert (tmp_path / "checkpoint").exists()
    other, other_options = dict(table), dict(options)
    for name, value in changed.items():
        if name == "validation":
            other_options[name] = (options[name][0] | value, ["p", "q"])
        elif name == "sample_weight":
            other_options[name] = value
        else:
            # Permuted, so that what a column learns of its cells stays the same.
            other[name] = table[name][::-1] if value == 1 else value
    with pytest.raises(ValueError, match="belongs to a run with other data or arguments"):
        model.fit(other, ["p", "q"] * 8, **other_options, resume=True)
    # Other labels of the same rows, and a seed without what follows from it.
    with pytest.raises(ValueError, match="arguments: targets; repeat"):
        validation = (options["validation"][0], ["x", "q"])
        changed_options = {**options, "validation": validation}
        model.fit(table, ["x", "q"] * 8, **changed_options, resume=True)
    with pytest.raises(ValueError, match="arguments: seed 0 there and 1 here; repeat"):
        model.fit(table, ["p", "q"] * 8, **options, seed=1, resume=True)
    model.fit(table, ["p", "q"] * 8, **options, resume=True)


@pytest.mark.parametrize("regression", [False, True])
def test_an_answer_belongs_to_one_fit(regression, monkeypatch):
    """A fit that ended while a reader was at work used to give it parts of both models."""
    model_class = MultimodalRegressor if regression else MultimodalClassifier
    table = {"a": ["u", "v", "w", "u"] * 4, "b": ["x", "y"] * 8}
    targets = [1.0, 2.0] * 8 if regression else ["p", "q"] * 8
    others = [100.0, 300.0] * 8 if regression else ["r", "s", "t", "s"] * 4

    def fit(y):
        kinds = {"a": "category", "b": "text"}
        model = model_class(kinds, d_model=4, hidden_dim=4, epochs=1, validation_fraction=0)
        return model.fit(table, y, progress=False)

    questions = {
        "explain": lambda m: [(e.logits.tolist(), e.classes) for e in m.explain(table)],
        "predict": lambda m: list(m.predict(table)),
        "evaluate": lambda m: m.evaluate(table, targets),
    }
    if not regression:
        questions["predict_proba"] = lambda m: m.predict_proba(table).tolist()
    before, after = fit(targets), fit(others)
    expected = {name: ask(before) for name, ask in questions.items()}
    encode = base_estimator.encode_rows

    def encode_and_fit(columns, cells):
        rows = encode(columns, cells)
        vars(reader).update(vars(after))  # as the end of a fit in another thread does
        return rows

    monkeypatch.setattr(base_estimator, "encode_rows", encode_and_fit)
    for name, ask in questions.items():
        reader = copy.copy(before)
        assert ask(reader) == expected[name], name


def test_eight_threads_ask_while_another_one_fits():
    table = {"a": ["u", "v", "w", "u"] * 4, "b": ["x", "y"] * 8}
    targets = [["p", "q"] * 8, ["r", "s", "t", "s"] * 4, ["p", "t"] * 8]
    kinds = {"a": "category", "b": "text"}
    model = MultimodalClassifier(kinds, d_model=4, hidden_dim=4, epochs=1, validation_fraction=0)

    def ask():
        explanations = model.explain(table)
        return {
            "proba": model.predict_proba(table).tobytes(),
            "labels": tuple(model.predict(table)),
            "explain": tuple(
                (tuple(each.classes), each.logits.tobytes(), each.bias.tobytes())
                for each in explanations
            ),
        }

    states = [model.fit(table, y, progress=False) and ask() for y in targets]
    allowed = {name: {state[name] for state in states} for name in states[0]}
    assert len(allowed["explain"]) == len(targets)
    done, wrong = threading.Event(), []

    def read():
        try:
            while not done.is_set():
                wrong.extend(name for name, own in ask().items() if own not in allowed[name])
        except Exception as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for y in targets:
        model.fit(table, y, progress=False)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong and ask() == states[-1]


def test_fits_in_threads_give_the_weights_of_one_after_the_other():
    table = {"text": ["a", "b b", "a c", "b"] * 8, "number": [1.0, 2.0, 3.0, 4.0] * 8}

    def fit(seed):
        model = MultimodalClassifier(
            {"text": "text", "number": "number"}, d_model=8, hidden_dim=8, epochs=3, batch_size=8
        )
        model.fit(table, ["p", "q"] * 16, seed=seed, progress=False)
        return [value.tolist() for value in model.network_.state_dict().values()]

    alone = [fit(seed) for seed in range(4)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fit, range(4))) == alone
    assert torch.equal(torch.get_rng_state(), before)
