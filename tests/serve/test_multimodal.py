"""Rows of a table over HTTP are answered as the model answers them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs pip install 'hyperagg[multimodal]'")

import soundfile
from PIL import Image
from starlette.testclient import TestClient

from hyperagg.multimodal import MultimodalClassifier, MultimodalRegressor
from hyperagg.serve import Settings, create_app, load_models
from tests.serve.conftest import MULTIMODAL_COLUMNS


def base64_of(save) -> str:
    buffer = io.BytesIO()
    save(buffer)
    return base64.b64encode(buffer.getvalue()).decode()


PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
SAMPLES = np.sin(np.arange(4000) / 9)
PNG = base64_of(lambda file: Image.fromarray(PIXELS).save(file, "PNG"))
WAV = base64_of(lambda file: soundfile.write(file, SAMPLES, 8000, format="WAV", subtype="FLOAT"))


@pytest.fixture(scope="module")
def client(multimodal_folder):
    app = create_app(
        load_models([multimodal_folder / "fruit", multimodal_folder / "price"]),
        Settings(max_texts=4),
    )
    with TestClient(app) as client:
        yield client


def test_rows_are_answered_as_by_the_model(client, multimodal_folder):
    model = MultimodalClassifier.from_pretrained(multimodal_folder / "fruit")
    row = {"note": "a red one", "weight": 140, "kind": "a"}
    cells = row | {"image": PIXELS, "audio": SAMPLES.astype(np.float32)}
    sent = row | {"image": f"data:image/png;base64,{PNG}", "audio": WAV}
    (explanation,) = model.explain({name: [cell] for name, cell in cells.items()})
    answer = client.post("/predict", json={"inputs": sent}).json()
    expected = model.predict({name: [cell] for name, cell in cells.items()}, top_k=2)[0]
    assert [each["label"] for each in answer] == [label for label, _ in expected]
    np.testing.assert_allclose([e["score"] for e in answer], [p for _, p in expected], rtol=1e-5)
    batch = client.post("/predict", json={"inputs": [row, {"weight": 9}], "top_k": 1}).json()
    rows = {"note": ["a red one", None], "weight": [140, 9], "kind": ["a", None]}
    assert [each["label"] for (each,) in batch] == model.predict(rows)
    explained = client.post("/explain", json={"inputs": sent}).json()
    assert {n: [t["text"] for t in c] for n, c in explained["columns"].items()} == dict(
        explanation.tokens
    )
    for each in explained["labels"]:
        total = each["bias"] + sum(map(sum, each["contributions"].values()))
        assert total == pytest.approx(each["logit"], abs=1e-4)
    assert client.get("/info").json()["columns"] == MULTIMODAL_COLUMNS


def test_a_regressor_answers_with_its_value(client, multimodal_folder):
    model = MultimodalRegressor.from_pretrained(multimodal_folder / "price")
    answer = client.post("/models/price/predict", json={"inputs": {"note": "red"}}).json()
    assert answer == [{"label": "value", "score": model.predict({"note": "red"})}]


HUGE = base64_of(lambda file: Image.new("1", (6000, 6000)).save(file, "PNG"))


@pytest.mark.parametrize(
    ("inputs", "status", "message"),
    [
        ("a text", 422, "inputs: expected a row"),
        ({}, 422, "inputs: expected a row with at least one value"),
        ([], 422, "inputs: expected at least one row"),
        ([{"note": "a"}] * 5, 413, "inputs: 5 rows: expected at most 4"),
        ({"colour": "red"}, 422, "inputs: column 'colour' of row 0: expected 'note'"),
        ({"weight": "heavy"}, 422, "inputs: row 0"),
        ({"image": "/etc/passwd"}, 422, "inputs: column 'image' of row 0: expected the base64"),
        ({"image": "tests/x.png"}, 422, "inputs: column 'image' of row 0: expected the base64"),
        ({"image": base64.b64encode(b"no").decode()}, 422, "inputs: column 'image' of row 0"),
        ({"audio": PNG}, 422, "inputs: column 'audio' of row 0: expected the base64 text of an"),
        ({"image": HUGE}, 413, "inputs: column 'image' of row 0: 36000000 pixels"),
        ({"weight": 10**400}, 422, "inputs:"),
    ],
)
def test_a_row_that_is_not_valid_is_refused(client, inputs, status, message):
    answer = client.post("/predict", json={"inputs": inputs})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)
    assert "/tmp" not in answer.json()["error"]
    assert client.post("/", json={"inputs": "a"}).status_code == 404


def test_flac_without_its_length_is_read_up_to_the_limit(client, monkeypatch):
    whole = base64.b64decode(base64_of(lambda f: soundfile.write(f, SAMPLES, 8000, format="FLAC")))
    streamed = bytearray(whole)
    streamed[21] &= 0xF0  # the number of samples, in 36 bits, is 0 if it is not known
    streamed[22:26] = bytes(4)
    rows = [{"audio": base64.b64encode(content).decode()} for content in (whole, streamed)]
    first, second = client.post("/predict", json={"inputs": rows}).json()
    assert first == second
    monkeypatch.setattr("hyperagg.serve.multimodal._MAX_SAMPLES", 1000)
    answer = client.post("/predict", json={"inputs": rows[1]})
    assert answer.status_code == 413 and "samples: expected at most 1000" in answer.json()["error"]
