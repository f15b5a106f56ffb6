"""Fit, predict, explain, save: on real digits, written and spoken, and on real reviews."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hyperagg import MultimodalModel
from hyperagg._common.split import train_validation_split
from hyperagg.data.datasets.digits import Images, load_fsdd, load_mnist
from research.data.digit_pairs import pair

COLUMNS = {
    "picture": "image",
    "sound": "audio",
    "word": "text",
    "odd": "category",
    "size": "number",
}
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def digits():
    """400 digits of three classes in five columns, each cell missing in one row of four."""
    written, spoken = load_mnist().train, load_fsdd().train
    few = np.flatnonzero(written.labels < 3)[:400]
    pairs = pair(Images(written.images[few], written.labels[few]), spoken, 0)
    rng, labels = np.random.default_rng(0), pairs.labels.tolist()
    whole = {
        "picture": list(pairs.images),
        "sound": pairs.sounds,
        "word": [f"the digit {NAMES[d]}" for d in labels],
        "odd": [str(d % 2) for d in labels],
        "size": [float(image.mean()) for image in pairs.images],
    }
    cells = {
        name: [cell if name == "picture" or rng.random() > 0.25 else None for cell in column]
        for name, column in whole.items()
    }
    return cells, [NAMES[d] for d in labels]


def rows(cells, part):
    return {name: column[part] for name, column in cells.items()}


def make(columns=COLUMNS, **options):
    return MultimodalModel(columns, **dict(d_model=24, hidden=32, epochs=6) | options)


@pytest.fixture(scope="module")
def model(digits):
    cells, labels = digits
    return make().fit(rows(cells, slice(300)), labels[:300], seed=1)


def test_it_learns_and_any_column_may_be_missing(model, digits):
    cells, labels = digits
    test = rows(cells, slice(300, None))
    assert model.evaluate(test, labels[300:])["accuracy"] > 0.9
    assert len(model.history_.score) == 6 and model.history_.seconds > 0
    for name in ("picture", "sound"):
        kept = [i for i, cell in enumerate(test[name]) if cell is not None]
        alone = {name: [test[name][i] for i in kept]}
        scores = model.evaluate(alone, [labels[300:][i] for i in kept])
        assert scores["accuracy"] > 0.6, name
    np.testing.assert_allclose(model.predict_proba(test).sum(1), 1)


def test_parts_add_up_and_have_names(model, digits):
    cells, _ = digits
    for i in range(5):
        row = {name: column[i] for name, column in cells.items()}
        why = model.explain(row)
        total = why.bias + sum(why.by_modality().values())
        np.testing.assert_allclose(total, why.logits, atol=2e-4)
        np.testing.assert_allclose(why.logits, model.logits(rows(cells, slice(i, i + 1)))[0])
        assert set(why.tokens) == {name for name, cell in row.items() if cell is not None}
        for name, tokens in why.tokens.items():
            assert len(tokens) == len(why.contributions[name]) == len(why.of(why.label)[name])
        if "word" in why.tokens:
            assert "digit" in why.tokens["word"]
    with pytest.raises(ValueError, match="label 'ten': the classes are one, two, zero"):
        why.of("ten")


def test_saved_and_read_it_is_the_same(model, digits, tmp_path):
    cells, _ = digits
    model.save_pretrained(tmp_path / "m")
    again = MultimodalModel.from_pretrained(tmp_path / "m")
    np.testing.assert_array_equal(model.logits(cells), again.logits(cells))
    again.save_pretrained(tmp_path / "n")
    for path in (tmp_path / "m").iterdir():
        if path.name != "README.md":
            assert path.read_bytes() == (tmp_path / "n" / path.name).read_bytes(), path.name
    assert not list(tmp_path.glob("m/.*"))


def test_same_seed_same_weights_stopped_or_not(digits, tmp_path, monkeypatch):
    cells, labels = digits
    columns = {"picture": "image", "word": "text"}
    part = rows(cells, slice(120)), labels[:120]
    options = dict(epochs=3, batch_size=32)
    whole = make(columns, **options).fit(*part)
    monkeypatch.setattr("hyperagg.multimodal.trainer.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    state = tmp_path / "checkpoint.safetensors"

    def stop(share, told):
        if share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(columns, **options).fit(*part, checkpoint=state, report=stop)
    with pytest.raises(ValueError, match="of other rows or other settings"):
        make(columns, **options).fit(*part, seed=2, checkpoint=state, resume=True)
    resumed = make(columns, **options).fit(*part, checkpoint=state, resume=True)
    assert not state.exists()
    np.testing.assert_array_equal(whole.logits(part[0]), resumed.logits(part[0]))
    assert whole.history_.loss == resumed.history_.loss


def test_regression_of_a_number(digits):
    cells, _ = digits
    ink = [float(image.mean()) for image in cells["picture"]]
    model = make({"picture": "image"}, regression=True, epochs=8)
    model.fit({"picture": cells["picture"][:300]}, ink[:300])
    test = {"picture": cells["picture"][300:]}
    assert model.evaluate(test, ink[300:])["r2"] > 0.8
    why = model.explain({"picture": test["picture"][0]})
    assert why.classes == ["value"]
    np.testing.assert_allclose(why.bias + why.contributions["picture"].sum(0), why.logits)
    assert model.predict(test)[0] == pytest.approx(why.logits[0])


@pytest.mark.parametrize("fusion", ["concatenation", "attention"])
def test_rivals_learn_and_have_no_exact_parts(digits, fusion, tmp_path):
    cells, labels = digits
    columns = {"picture": "image", "sound": "audio"}
    model = make(columns, fusion=fusion, epochs=1).fit(rows(cells, slice(64)), labels[:64])
    model.save_pretrained(tmp_path)
    again = MultimodalModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(model.logits(cells), again.logits(cells))
    with pytest.raises(ValueError, match="only the sum's logits"):
        model.explain({"picture": cells["picture"][0]})


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"a": [1, None], "b": ["x", None]}, r"row 1: has nothing in any of 'a', 'b' \(1 of 2"),
        ({"a": [1, "two"], "b": ["x", "y"]}, "row 1, column 'a': 'two' is no number"),
        ({"a": [1, float("inf")], "b": ["x", "y"]}, "row 1, column 'a': inf is no finite number"),
        ({"a": [1, 2], "b": ["x", 3]}, "row 1, column 'b': a text is int"),
        ({"a": [1, 2], "b": [None, None]}, "column 'b': is empty in every row"),
        ({"a": [1, 2]}, "cells: has no column 'b'"),
        ({"a": [1, 2], "b": ["x"]}, "differ in how many rows"),
        ({"a": [], "b": []}, "there are no rows"),
    ],
)
def test_cells_that_do_not_fit(cells, said):
    targets = ["p", "q"][: len(cells["a"])]
    with pytest.raises((ValueError, TypeError), match=said):
        MultimodalModel({"a": "number", "b": "text"}).fit(cells, targets)


@pytest.mark.parametrize(
    ("kind", "cell", "said"),
    [
        ("image", np.zeros((4, 4)), "row 1, column 'c': a picture is of float64; give uint8"),
        ("image", np.zeros((4, 4, 2), np.uint8), r"a picture has the shape \(4, 4, 2\)"),
        ("image", "nowhere.png", "row 1, column 'c': nowhere.png: there is no such file"),
        ("audio", np.zeros((4, 2)), r"row 1, column 'c': a sound has the shape \(4, 2\)"),
        ("audio", np.array([0.0, np.nan]), "samples that are not finite"),
        ("audio", "nowhere.wav", "row 1, column 'c': nowhere.wav: there is no such file"),
    ],
)
def test_media_that_do_not_fit(kind, cell, said):
    good = np.zeros((4, 4), np.uint8) if kind == "image" else np.zeros(100)
    with pytest.raises((ValueError, TypeError), match=said):
        MultimodalModel({"c": kind}).fit({"c": [good, cell]}, ["p", "q"])


def test_targets_and_settings_that_do_not_fit():
    model = MultimodalModel({"a": "number"})
    with pytest.raises(ValueError, match="all are 'p'; a classifier needs"):
        model.fit({"a": [1, 2]}, ["p", "p"])
    with pytest.raises(ValueError, match="call fit"):
        model.predict({"a": [1]})
    with pytest.raises(ValueError, match="foretells numbers"):
        MultimodalModel({"a": "number"}, regression=True).fit({"a": [1, 2]}, ["p", "q"])
    with pytest.raises(ValueError, match=r"columns\['a'\]='video': there are text, number"):
        MultimodalModel({"a": "video"})


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer-2.json"])
def test_a_damaged_folder(model, tmp_path, damage):
    model.save_pretrained(tmp_path)
    (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"save the model again|not the folder of"):
        MultimodalModel.from_pretrained(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(ValueError, match=r"is missing; save|not the folder of"):
        MultimodalModel.from_pretrained(tmp_path)
    described = {"format": "hyperagg.MultimodalModel", "format_version": 9}
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="of format version 9"):
        MultimodalModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("by_class", [True, False])
def test_a_tenth_is_held_out_or_nothing(by_class):
    wanted = np.arange(200) % 2
    learned, held = train_validation_split(wanted, 0.1, 3, "stratified" if by_class else "random")
    assert len(held) == 20 and not set(learned) & set(held) and len(learned) == 180
    if by_class:
        assert wanted[held].sum() == 10
    learned, held = train_validation_split(wanted, 0.0, 3, "stratified" if by_class else "random")
    assert len(learned) == 200 and not len(held)
