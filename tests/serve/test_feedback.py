"""Corrected labels change the model for every request, all at once, and are saved."""

from __future__ import annotations

import shutil
import threading

import pytest
import requests
from starlette.testclient import TestClient

import hyperagg
from hyperagg.serve import Settings, create_app, load_models
from tests.serve.conftest import serving

TEXT = "Wheat and corn shipments rose"
KEY = {"Authorization": "Bearer right"}


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


@pytest.fixture
def url(copied):
    settings = Settings(feedback_token="right", api_key="other", max_texts=5)
    with serving(create_app(load_models([copied]), settings)) as url:
        yield url


def test_a_corrected_label_changes_the_answer_for_all_readers_at_once(url, copied):
    def scores():
        answer = requests.post(
            f"{url}/predict",
            json={"texts": [TEXT, "oil", "profit rose"]},
            headers={"Authorization": "Bearer other"},
        )
        return answer.json()

    before, seen, done = scores(), [], threading.Event()

    def read():
        own = []
        while not done.is_set():
            own.append(scores())
        seen.append([*own, scores()])

    readers = [threading.Thread(target=read) for _ in range(50)]
    for reader in readers:
        reader.start()
    corrected = "ship" if before[0][0]["label"] != "ship" else "earn"
    answer = requests.post(
        f"{url}/feedback",
        json={"texts": [TEXT], "labels": [corrected], "epochs": 30},
        headers=KEY,
    )
    done.set()
    for reader in readers:
        reader.join()
    assert answer.status_code == 200, answer.text
    after = scores()
    assert before[0][0]["label"] != after[0][0]["label"] == corrected
    for own in seen:
        assert own[-1] == after
        switched = own.index(after)
        assert all(each == before for each in own[:switched])
        assert all(each == after for each in own[switched:])
    saved = hyperagg.load_predictor(copied)
    assert saved.predict(TEXT) == corrected
    assert answer.json() == {"model_sha": saved.fingerprint, "num_texts": 1}


def test_feedback_is_refused_without_its_key_and_with_invalid_labels(url, copied):
    before = (copied / "model.safetensors").read_bytes()
    body = {"texts": ["a"], "labels": ["earn"]}
    for headers in ({}, {"Authorization": "Bearer other"}):
        answer = requests.post(f"{url}/feedback", json=body, headers=headers)
        assert answer.status_code == 401
    for change, status, message in [
        ({"labels": ["earns"]}, 422, "labels: 'earns' of text 0: expected a label of the model"),
        ({"labels": [["earn"]]}, 422, "labels: ['earn'] of text 0: expected a label"),
        ({"labels": []}, 422, "labels: 0 for 1 texts: expected one for each"),
        ({"texts": []}, 422, "texts: [] is not valid: expected a list of texts"),
        ({"epochs": 1000}, 422, "epochs: 1000 is not valid: expected the number of passes"),
        ({"texts": ["a"] * 6, "labels": ["earn"] * 6}, 413, "inputs: a batch of 6 texts"),
    ]:
        answer = requests.post(f"{url}/feedback", json=body | change, headers=KEY)
        assert answer.status_code == status
        assert answer.json()["error"].startswith(message)
    assert (copied / "model.safetensors").read_bytes() == before


def test_lists_of_labels_that_are_numbers_are_known_by_their_names(tmp_path):
    texts, labels = ["good film", "bad film"] * 10, [[1], [1, 2]] * 10
    hyperagg.TextClassifier(epochs=1, refit=False).fit(texts, labels).save_pretrained(tmp_path)
    app = create_app(load_models([tmp_path]), Settings(feedback_token="right"))
    with TestClient(app) as client:
        body = {"texts": ["good", "bad"], "labels": [["1", "2"], []]}
        assert client.post("/feedback", json=body, headers=KEY).status_code == 200
    assert hyperagg.TextClassifier.from_pretrained(tmp_path).classes_ == [1, 2]


def test_feedback_is_off_unless_there_is_a_token(folder):
    with serving(create_app(load_models([folder]))) as url:
        answer = requests.post(f"{url}/feedback", json={"texts": ["a"], "labels": ["earn"]})
    assert answer.status_code == 404


def test_a_model_that_cannot_learn_is_refused_at_the_start(copied, tmp_path):
    small = tmp_path / "small"
    hyperagg.TextClassifier.from_pretrained(copied).quantize().save_pretrained(small)
    for folders in ([small], [copied, small]):
        with pytest.raises(ValueError, match=f"{small}: cannot learn .* training.safetensors"):
            create_app(load_models(folders), Settings(feedback_token="right"))


def test_feedback_that_cannot_be_saved_changes_nothing(copied, monkeypatch):
    (model,) = load_models([copied])
    app = create_app([model], Settings(feedback_token="right"))

    def fail(self, folder):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr(hyperagg.TextClassifier, "save_pretrained", fail)
    before = model.predictor
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/feedback", json={"texts": ["a"], "labels": ["earn"]}, headers=KEY)
    assert answer.status_code == 424
    assert answer.json() == {
        "error": "the model could not be saved: No space left on device",
        "error_type": "Backend",
    }
    assert model.predictor is before
