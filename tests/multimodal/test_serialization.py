"""Model folders: what is saved is loaded bit by bit, and what is damaged is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hyperagg._common import hub
from hyperagg.multimodal import (
    MultimodalClassifier,
    MultimodalRegressor,
    is_multimodal,
    load_multimodal,
)
from hyperagg.multimodal.history import History

KINDS = {"text": "text", "a": "number", "b": "category", "image": "image", "audio": "audio"}
TABLE = {
    "text": ["x y", "z", "x", None],
    "a": [1.0, 2.0, None, 5.0],
    "b": ["u", "v", "u", "u"],
    "image": [np.full((5, 6), value, np.uint8) for value in (0, 40, 80, 255)],
    "audio": [np.linspace(-1, 1, 900), None, np.zeros(700), np.ones(5)],
}


@pytest.fixture(scope="module")
def model():
    options = dict(d_model=4, hidden_dim=4, epochs=1, sample_rate=2000)
    return MultimodalClassifier(KINDS, **options).fit(TABLE, ["p", "q", "q", "p"])


def test_a_loaded_model_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "a")
    loaded = MultimodalClassifier.from_pretrained(tmp_path / "a")
    table = {name: column for name, column in TABLE.items() if name != "audio"}
    np.testing.assert_array_equal(model.logits(table), loaded.logits(table))
    assert loaded.columns == KINDS and loaded.sample_rate == 2000
    assert loaded.history_ == model.history_
    loaded.save_pretrained(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        if path.name != "README.md":
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert not list(tmp_path.glob("a/.*"))
    assert type(load_multimodal(tmp_path / "a")) is MultimodalClassifier


def test_a_folder_from_before_calibration_is_loaded(model, tmp_path, monkeypatch):
    def without_calibration(value):
        fields = asdict(value)
        names = ("loss", "score", "best_epoch", "seconds")
        return {n: fields[n] for n in names} if isinstance(value, History) else fields

    monkeypatch.setattr("hyperagg.multimodal.base_estimator.asdict", without_calibration)
    model.save_pretrained(tmp_path)
    loaded = MultimodalClassifier.from_pretrained(tmp_path)
    np.testing.assert_array_equal(model.logits(TABLE), loaded.logits(TABLE))
    assert loaded.history_.temperature == 1 and loaded.history_.loss == model.history_.loss


def test_a_regressor_is_loaded_as_one(tmp_path):
    model = MultimodalRegressor({"a": "number"}, d_model=2, epochs=1)
    model.fit({"a": [1.0, 2.0]}, [3.0, 4.0]).save_pretrained(tmp_path)
    loaded = load_multimodal(tmp_path)
    assert type(loaded) is MultimodalRegressor
    np.testing.assert_array_equal(model.predict({"a": [1.5]}), loaded.predict({"a": [1.5]}))
    with pytest.raises(ValueError, match="holds a MultimodalRegressor; expected a MultimodalClass"):
        MultimodalClassifier.from_pretrained(tmp_path)


def test_a_subclass_is_loaded_as_what_it_extends(tmp_path):
    class Extended(MultimodalRegressor):
        pass

    model = Extended({"a": "number"}, d_model=2, epochs=1)
    model.fit({"a": [1.0, 2.0]}, [3.0, 4.0]).save_pretrained(tmp_path)
    assert type(load_multimodal(tmp_path)) is MultimodalRegressor
    assert type(Extended.from_pretrained(tmp_path)) is Extended


def test_the_model_card(model, tmp_path):
    model.save_pretrained(tmp_path / "digits")
    card = (tmp_path / "digits" / "README.md").read_text()
    assert "# digits" in card and "one of 2 labels" in card and "text (text), a (number)" in card
    assert "MultimodalClassifier.from_pretrained('digits')" in card
    hub = pytest.importorskip("huggingface_hub")
    assert hub.ModelCard(card).data.library_name == "hyperagg"


def test_it_is_pushed_to_the_hub(model, monkeypatch, tmp_path):
    def push(save, repo_id, **options):
        save(tmp_path)
        return f"{repo_id} {options['private']}"

    monkeypatch.setattr("hyperagg.multimodal.base_estimator.push_folder", push)
    assert model.push_to_hub("owner/name", private=True) == "owner/name True"
    assert (tmp_path / "config.json").is_file()
    assert callable(hub.push_folder)


@pytest.mark.parametrize("replaced", ["config.json", "model.safetensors", "tokenizer-0.json"])
def test_files_of_two_models_are_refused_whatever_their_shapes(tmp_path, replaced):
    for name, texts, labels in (("a", ["oil", "gold"], [0, 1]), ("b", ["rain", "snow"], [2, 3])):
        model = MultimodalClassifier({"text": "text"}, d_model=2, hidden_dim=2, epochs=1)
        model.fit({"text": texts}, labels).save_pretrained(tmp_path / name)
    shutil.copy(tmp_path / "b" / replaced, tmp_path / "a" / replaced)
    with pytest.raises(ValueError, match=r"model.safetensors: damaged .*belongs to another"):
        MultimodalClassifier.from_pretrained(tmp_path / "a")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer-0.json"])
def test_a_damaged_file_is_named(model, tmp_path, file):
    model.save_pretrained(tmp_path)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"{file}: damaged|not the folder of") as caught:
        MultimodalClassifier.from_pretrained(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=rf"{file} is missing; save|not the folder of"):
        MultimodalClassifier.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"format": "hyperagg.MultimodalClassifier", "format_version": 9},
        {"format": "hyperagg.MultimodalModel", "format_version": 1},
    ],
)
def test_another_format_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert is_multimodal(tmp_path)
    with pytest.raises(ValueError, match="another version of hyperagg; train the model again"):
        load_multimodal(tmp_path)


def put(*keys, value):
    def change(config):
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("arguments", "d_model", value=2**15),
        put("arguments", "d_model", value="8"),
        put("arguments", "unknown", value=1),
        put("columns", "image", "height", value=10**6),
        put("columns", "image", "channels", value=2),
        put("columns", "audio", "sample_rate", value=10**9),
        put("columns", "a", "knots", value=[2.0, 1.0]),
        put("columns", "b", "categories", value="uv"),
        put("columns", "b", "kind", value="video"),
        put("columns", value=[]),
        put("target", "classes", value=["p"]),
        put("history", "best_epoch", value=7),
        put("history", value={"loss": "x"}),
        put("history", "temperature", value=0),
        put("history", "num_validation", value=-1),
        put("history", "expected_calibration_error", value=[0.1]),
    ],
)
def test_fields_out_of_bounds_are_refused(model, tmp_path, change):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="damaged") as caught:
        MultimodalClassifier.from_pretrained(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    # Which would be said of any change.
    assert "belongs to another" not in str(caught.value)


def test_tensors_that_do_not_fit_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for value in (np.zeros((2, 5), np.float32), np.full((2, 4), np.nan, np.float32)):
        save_file(tensors | {"head.weight": value}, file)
        with pytest.raises(ValueError, match=r"tensor head\.weight"):
            MultimodalClassifier.from_pretrained(tmp_path)


def test_a_folder_is_recognized_without_pytorch(model, tmp_path):
    model.save_pretrained(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from hyperagg.multimodal import is_multimodal\n"
        f"assert is_multimodal({str(tmp_path)!r}) and not is_multimodal('nowhere')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
