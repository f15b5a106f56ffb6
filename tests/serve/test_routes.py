"""What clients send and get: the shapes of Text Embeddings Inference, errors and limits."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import huggingface_hub
import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from hyperagg.classifier import TextClassifier
from hyperagg.serve import Settings, create_app, load_models
from hyperagg.serve.errors import RequestError
from hyperagg.serve.log import JsonFormatter
from hyperagg.serve.requests import PredictRequest

TEXT = "The company said its net profit rose in the first quarter"


def ranked(predictor, text, top_k=None):
    pairs = predictor.predict(text, top_k=top_k or len(predictor.classes_))
    return [{"label": str(label), "score": score} for label, score in pairs]


def test_the_client_of_hugging_face_works_unchanged(url, predictor):
    client = huggingface_hub.InferenceClient(base_url=url)
    found = client.text_classification(TEXT)
    assert [dict(each) for each in found] == ranked(predictor, TEXT)
    (best,) = client.text_classification(TEXT, top_k=1)
    assert best.label == predictor.predict(TEXT)
    logits = client.text_classification(TEXT, top_k=1, function_to_apply="none")
    assert logits[0].score == predictor.logits(TEXT).max()
    named = huggingface_hub.InferenceClient(base_url=f"{url}/models/news")
    assert named.text_classification(TEXT) == found


def test_predict_takes_a_text_a_pair_or_a_batch(url, predictor, newswires):
    def predict(**body):
        answer = requests.post(f"{url}/predict", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert predict(inputs=TEXT) == ranked(predictor, TEXT)
    assert predict(inputs=[TEXT]) == ranked(predictor, TEXT)
    assert predict(inputs=[TEXT, "up"], top_k=2) == ranked(predictor, f"{TEXT}\nup", 2)
    batch = [ranked(predictor, TEXT, 1), ranked(predictor, "wheat", 1)]
    assert predict(inputs=[[TEXT], ["wheat"]], top_k=1) == batch
    assert predict(texts=[TEXT, "wheat"], top_k=1) == batch
    texts = newswires[0][:100]  # large enough for a thread of its own
    assert predict(texts=texts, top_k=3) == [ranked(predictor, text, 3) for text in texts]
    raw = predict(inputs=TEXT, raw_scores=True)
    assert raw[0]["score"] == predictor.logits(TEXT).max()
    assert predict(inputs="x" * 300_000, truncate=True) == ranked(predictor, "x" * 200_000)


def test_an_explanation_adds_up_to_the_logits(url, predictor):
    text = "Wheat 🌾 exports ROSE"
    answer = requests.post(f"{url}/explain", json={"inputs": text}).json()
    assert [token["text"] for token in answer["tokens"]] == predictor.explain(text).tokens
    for token in answer["tokens"]:
        assert text[token["start"] : token["end"]] == token["text"]
    assert [each["label"] for each in answer["labels"]] == [
        each["label"] for each in ranked(predictor, text)
    ]
    for each in answer["labels"]:
        total = each["bias"] + sum(each["contributions"])
        assert total == pytest.approx(each["logit"], abs=1e-4)
    logits = predictor.logits(text)
    assert answer["labels"][0]["logit"] == logits.max()
    (chosen,) = requests.post(f"{url}/explain", json={"inputs": text, "labels": ["earn"]}).json()[
        "labels"
    ]
    assert chosen in answer["labels"]
    empty = requests.post(f"{url}/explain", json={"inputs": "", "top_k": 1}).json()
    assert empty["tokens"] == empty["labels"][0]["contributions"] == []


def test_a_server_describes_itself(url, predictor):
    assert requests.get(f"{url}/health").status_code == 200
    info = requests.get(f"{url}/info").json()
    assert info["model_sha"] == predictor.fingerprint
    label2id = info["model_type"]["classifier"]["label2id"]
    assert list(label2id) == predictor.classes_ and info["streaming"]
    assert requests.get(f"{url}/models").json() == {
        "models": [{"name": "news", "kind": "classifier"}]
    }
    schema = requests.get(f"{url}/openapi.json").json()
    properties = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert "top_k" in properties["application/json"]["schema"]["properties"]
    assert (
        'hyperagg_requests_total{route="info",status="200"}' in requests.get(f"{url}/metrics").text
    )


INVALID = {
    "not JSON": (b"{", "the body is not valid JSON"),
    "nothing": (b"", "the body is not valid JSON"),
    "not an object": (b"null", "the body is None: expected a JSON object"),
    "deep": (b"[" * 100_000, "the body is not valid JSON"),
    "deep inputs": (b'{"inputs":' + b"[" * 100_000, "the body is not valid JSON"),
    "a lone surrogate": (b'{"inputs": "\\ud800"}', "the body is not valid JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', "the body is not valid JSON"),
    "NaN": (b'{"inputs": NaN}', "inputs: nan is not valid: expected a text, a pair"),
    "infinity": (b'{"inputs": "a", "top_k": 1e999}', "top_k: inf is not valid"),
    "a number": (b'{"inputs": 1}', "inputs: 1 is not valid: expected a text, a pair"),
    "nothing to read": (b"{}", "expected one of inputs and texts"),
    "both": (b'{"inputs": "a", "texts": ["a"]}', "expected one of inputs and texts"),
    "an empty batch": (b'{"inputs": []}', "inputs: a batch of 0 texts: expected at least 1"),
    "three texts": (b'{"inputs": ["a", "b", "c"]}', "inputs: a list of 3 texts is not valid"),
    "a row": (b'{"inputs": {"a": 1}}', "inputs: expected texts, not rows of a table"),
    "top_k": (b'{"inputs": "a", "top_k": 0}', "top_k: 0 is not valid: expected the number"),
    "a truth value": (b'{"inputs": "a", "top_k": true}', "top_k: True is not valid"),
    "an unknown argument": (b'{"inputs": "a", "topk": 1}', "'topk': expected one of 'inputs'"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_body_is_answered_with_its_field_and_what_is_accepted(url, case):
    body, message = INVALID[case]
    answer = requests.post(f"{url}/predict", data=body)
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "Validation"
    assert answer.json()["error"].startswith(message)
    assert "\n" not in answer.json()["error"]


def test_errors_below_v1_have_the_shape_of_openai(url):
    answer = requests.get(f"{url}/v1/nothing")
    assert (answer.status_code, answer.json()) == (
        404,
        {
            "error": {
                "message": "Not Found",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        },
    )
    assert requests.get(f"{url}/nothing").json() == {"error": "Not Found", "error_type": "NotFound"}
    assert requests.get(f"{url}/predict").status_code == 405
    answer = requests.post(f"{url}/models/other/predict", json={"inputs": "a"})
    assert answer.status_code == 404 and "expected one of 'news'" in answer.json()["error"]


def test_the_limits_are_named(serve):
    url = serve(max_body_bytes=1000, max_texts=3, max_characters=100)

    def refused(**body):
        answer = requests.post(f"{url}/predict", json=body)
        assert answer.status_code == 413
        return answer.json()["error"]

    assert refused(inputs="x" * 2000) == "the body is larger than 1000 bytes"
    assert refused(texts=["a"] * 4) == "inputs: a batch of 4 texts: expected at most 3"
    assert refused(inputs="x" * 101) == "inputs: a text of 101 characters: expected at most 100"
    # Without a Content-Length.
    answer = requests.post(f"{url}/predict", data=iter([b'{"inputs": "', b"x" * 2000, b'"}']))
    assert answer.status_code == 413
    assert answer.json()["error"] == "the body is larger than 1000 bytes"


def test_an_answer_of_too_many_scores_is_refused_before_it_is_computed(tmp_path):
    labels = [f"label {i}" for i in range(500)]
    TextClassifier(d_model=4, epochs=1, refit=False).fit(labels, labels).save_pretrained(tmp_path)
    (model,) = load_models([tmp_path])
    body = PredictRequest(texts=["a"] * 1000)
    with pytest.raises(RequestError, match=r"500000 scores: .* top_k of at most 250"):
        model.predict(body, Settings())
    found = model.predict(PredictRequest(texts=["label 7"] * 2, top_k=3), Settings())
    predicted = model.predictor.predict(["label 7"] * 2, top_k=3)
    assert [[(e["label"], e["score"]) for e in row] for row in found] == predicted


def read(connection: socket.socket) -> bytes:
    answer = b""
    while block := connection.recv(65536):
        answer += block
    return answer


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port))


def test_requests_beyond_the_limit_get_status_429(serve):
    url = serve(max_concurrent_requests=1)
    with connect(url) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n{")
        while (answer := requests.post(f"{url}/predict", json={"inputs": "a"})).status_code == 200:
            pass  # the server has not read the headers yet
        assert answer.status_code == 429 and answer.headers["Retry-After"] == "1"
        assert answer.json()["error_type"] == "Overloaded"
        assert requests.get(f"{url}/health").status_code == 200
        slow.sendall(b'"inputs": "ab"}')
        assert b"200 OK" in slow.recv(1000)
    assert requests.post(f"{url}/predict", json={"inputs": "a"}).status_code == 200


def test_a_body_must_arrive_in_time(serve):
    url = serve(request_timeout=0.2)
    with connect(url) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{")
        answer = read(slow)
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.2 s" in answer
    with connect(url) as gone:  # half closed, and closed while a body is awaited
        gone.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{")
        gone.shutdown(socket.SHUT_WR)
        read(gone)
    assert requests.post(f"{url}/predict", json={"inputs": "a"}).status_code == 200


def test_a_client_that_leaves_before_its_body_has_arrived_is_no_error(serve, caplog):
    url = serve()

    def number_of_those_that_left():
        text = requests.get(f"{url}/metrics").text
        found = re.search(r'requests_total{route="predict",status="0"} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = number_of_those_that_left()
    with connect(url) as gone:
        gone.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{")
    while number_of_those_that_left() == before:
        time.sleep(0.001)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_middleware_of_an_application_of_ones_own_surrounds_all_routes(folder):
    app = create_app(load_models([folder]))

    @app.middleware("http")
    async def mark(request, call_next):
        answer = await call_next(request)
        answer.headers["X-Mark"] = "seen"
        return answer

    with TestClient(app) as client:
        for path in ("/predict", "/models/news/predict"):
            answer = client.post(path, json={"inputs": "a", "top_k": 0})
            assert answer.status_code == 422 and answer.headers["X-Mark"] == "seen"
        assert client.get("/predict").status_code == 405


def test_a_key_is_required_for_everything_that_depends_on_the_model(serve, predictor):
    url = serve(api_key="secret-1")
    for path in ("/predict", "/explain", "/"):
        answer = requests.post(url + path, json={"inputs": TEXT})
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["error_type"] == "Unauthorized"
        wrong = {"Authorization": "Bearer secret-2"}
        assert requests.post(url + path, json={"inputs": TEXT}, headers=wrong).status_code == 401
    for path in ("/info", "/models", "/metrics", "/models/news/info"):
        assert requests.get(url + path).status_code == 401
    assert requests.get(f"{url}/v1/models").json()["error"]["code"] == "invalid_api_key"
    for path in ("/models/feedback", "/other/news/feedback"):  # a model may have this name
        assert requests.post(url + path, json={"inputs": TEXT}).status_code == 401
    for path in ("/health", "/openapi.json"):
        assert requests.get(url + path).status_code == 200
    client = huggingface_hub.InferenceClient(base_url=url, api_key="secret-1")
    assert client.text_classification(TEXT)[0].label == predictor.predict(TEXT)


def test_a_bug_is_answered_without_its_message_and_logged_without_it(folder):
    (model,) = load_models([folder])
    app = create_app([model])

    def fail(*args):
        raise KeyError("the text of a client")

    with TestClient(app, raise_server_exceptions=False) as client:
        model.predict = fail
        answer = client.post("/predict", json={"inputs": "a"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error", "error_type": "Backend"}
    try:
        fail()
    except KeyError:
        record = logging.LogRecord("uvicorn", 40, "", 1, "failed", None, sys.exc_info())
    line = JsonFormatter().format(record)
    assert "the text of a client" not in line
    assert json.loads(line)["exception"] == "KeyError"


def test_each_request_is_logged_without_its_content(url, caplog):
    with caplog.at_level("INFO", "hyperagg.serve.access"):
        requests.post(f"{url}/predict?secret=1", json={"inputs": "private words"})
        lines: list[str] = []
        while not lines:  # a request is logged after its answer was sent
            time.sleep(0.001)
            lines = [r.getMessage() for r in caplog.records if r.name == "hyperagg.serve.access"]
    (line,) = lines
    content = json.loads(line)
    assert (content["method"], content["path"], content["status"]) == ("POST", "/predict", 200)
    assert "private" not in line and "secret" not in line


@given(st.text(max_size=300))
def test_any_text_is_classified_as_by_the_predictor(url, predictor, text):
    answer = requests.post(f"{url}/predict", json={"inputs": text, "top_k": 2})
    assert answer.json() == ranked(predictor, text, 2)
    explained = requests.post(f"{url}/explain", json={"inputs": text, "top_k": 1}).json()
    for token in explained["tokens"]:
        assert text[token["start"] : token["end"]] == token["text"]


def test_simultaneous_requests_get_their_own_answers(url, predictor, newswires):
    texts = newswires[0][:200]

    def predict(text):
        return requests.post(f"{url}/predict", json={"inputs": text, "top_k": 1}).json()[0]["label"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predict, texts)) == predictor.predict(texts)


def test_a_quantized_and_a_multi_label_model_are_served(tmp_path):
    labels = [["a"], ["b"], ["a", "b"]] * 20
    clf = TextClassifier(d_model=8, epochs=3, refit=False).fit(
        ["one", "two", "one two"] * 20, labels
    )
    clf.save_pretrained(tmp_path / "both")
    clf.quantize().save_pretrained(tmp_path / "small")
    app = create_app(load_models([tmp_path / "both", tmp_path / "small"]))
    with TestClient(app) as client:
        assert client.get("/info").json()["multi_label"]
        for name in ("both", "small"):
            answer = client.post(f"/models/{name}/predict", json={"inputs": "one"}).json()
            scores = {each["label"]: each["score"] for each in answer}
            expected = TextClassifier.from_pretrained(tmp_path / name).predict_proba("one")
            np.testing.assert_array_equal([scores["a"], scores["b"]], expected)


def test_a_text_that_the_tokenizer_cannot_encode_is_a_mistake_of_the_request(tmp_path):
    """It used to be an internal error, and the server did not start."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({"good": 0, "bad": 1}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(words)  # without a token for what is unknown
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    clf = TextClassifier(d_model=8, epochs=3, tokenizer=tokenizer)
    clf.fit(["good", "bad"] * 20, ["yes", "no"] * 20).save_pretrained(tmp_path / "model")
    models = load_models([tmp_path / "model"])
    key = {"Authorization": "Bearer right"}
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with TestClient(create_app(models, Settings(feedback_token="right"))) as client:
        for path in ("/predict", "/", "/explain"):
            assert client.post(path, json={"inputs": "good"}).status_code == 200
            answer = client.post(path, json={"inputs": "unknown"})
            assert answer.status_code == 422
            assert answer.json()["error"].startswith(
                "inputs: the tokenizer cannot encode the texts ("
            )
        answer = client.post(
            "/feedback", json={"texts": ["unknown"], "labels": ["yes"]}, headers=key
        )
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("texts: the tokenizer cannot encode the texts (")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "body", "waits"),
    [
        ("/predict", {"inputs": TEXT}, False),
        ("/predict", {"texts": ["a"] * 1000}, True),
        ("/predict", {"inputs": "a" * 60_000}, True),
        ("/explain", {"inputs": TEXT}, True),
    ],
)
def test_what_takes_long_does_not_keep_other_requests_waiting(folder, path, body, waits):
    (model,) = load_models([folder])
    method, threads = path[1:], []
    compute = getattr(model, method)

    def observed(*args):
        threads.append(threading.current_thread().name)
        return compute(*args)

    setattr(model, method, observed)
    with TestClient(create_app([model])) as client:
        threads.clear()  # those of the warm-up
        assert client.post(path, json=body).status_code == 200
    assert ["worker" in name for name in threads] == [waits]


@pytest.mark.parametrize(("length", "status"), [("0" * 5000 + "19", 200), ("1" * 5000, 413)])
def test_a_content_length_of_thousands_of_digits(url, length, status):
    host, port = url.removeprefix("http://").split(":")
    body = b'{"inputs": "wheat"}'
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode()
            + body
        )
        answer = connection.recv(1000).split(b"\r\n")[0]
    # The parser of HTTP may refuse the number itself.
    assert int(answer.split()[1]) in (status, 400)


def test_load_balancers_may_ask_by_head(url):
    answer = requests.head(f"{url}/health", timeout=60)
    assert answer.status_code == 200 and not answer.content
