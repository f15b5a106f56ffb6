"""A text that arrives in pieces is classified as the whole text is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from hyperagg.serve import Settings, create_app, load_models


def ranked(predictor, text):
    pairs = predictor.predict(text, top_k=len(predictor.classes_))
    return [{"label": str(label), "score": score} for label, score in pairs]


@pytest.fixture(scope="module")
def client(folder):
    with TestClient(create_app(load_models([folder]))) as client:
        yield client


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_a_stream_answers_as_for_the_whole_text(client, predictor, pieces):
    with client.websocket_connect("/stream") as stream:
        for i, piece in enumerate(pieces):
            stream.send_json({"append": piece})
            assert stream.receive_json()["labels"] == ranked(predictor, "".join(pieces[: i + 1]))


def test_a_stream_begins_anew_and_says_how_many_words_it_has(client, predictor):
    with client.websocket_connect("/models/news/stream") as stream:
        stream.send_json({"append": "wheat and co"})
        assert stream.receive_json()["num_words"] == 3
        stream.send_json({"append": "rn", "top_k": 1})
        assert stream.receive_json()["labels"] == ranked(predictor, "wheat and corn")[:1]
        stream.send_json({"reset": True, "append": "profit"})
        assert stream.receive_json() == {"labels": ranked(predictor, "profit"), "num_words": 1}
        stream.send_bytes(b'{"append": " rose ' + b"again " * 10_000 + b'"}')  # in a thread
        assert stream.receive_json()["num_words"] == 10_002


@pytest.mark.parametrize(
    "message", ["{", '{"append": 1}', '{"other": 1}', '{"append": "\\ud83d"}', "[" * 10_000]
)
def test_an_invalid_message_leaves_the_text_as_it_was(client, predictor, message):
    with client.websocket_connect("/stream") as stream:
        stream.send_json({"append": "profit"})
        stream.receive_json()
        stream.send_text(message)
        assert stream.receive_json()["error_type"] == "Validation"
        stream.send_json({"append": "s"})
        assert stream.receive_json()["labels"] == ranked(predictor, "profits")


def test_a_stream_over_a_network(url, predictor):
    with connect(url.replace("http", "ws") + "/stream") as stream:
        stream.send(json.dumps({"append": "wheat"}))
        assert json.loads(stream.recv())["labels"] == ranked(predictor, "wheat")


def test_streams_are_limited_and_keys_are_required(folder):
    settings = Settings(max_streams=1, api_key="secret", stream_timeout=5, max_characters=10)
    headers = {"Authorization": "Bearer secret"}
    with TestClient(create_app(load_models([folder]), settings)) as client:
        with client.websocket_connect("/stream", headers=headers) as stream:
            stream.send_json({"append": "x" * 11})
            assert "expected at most 10" in stream.receive_json()["error"]
            with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/stream"):
                pass
            assert refused.value.status_code == 429
        with client.websocket_connect("/stream") as stream:  # as a browser does
            stream.send_json({"append": "a", "api_key": "secret"})
            assert stream.receive_json()["num_words"] == 1
            stream.send_json({"append": "a"})
            assert stream.receive_json()["num_words"] == 1
        for first in ({"append": "a"}, {"append": "a", "api_key": "secret2"}):
            with client.websocket_connect("/stream") as stream:
                stream.send_json(first)
                assert stream.receive_json()["error_type"] == "Unauthorized"
                with pytest.raises(WebSocketDisconnect):
                    stream.receive_json()


def test_a_page_of_another_server_cannot_open_a_stream(client):
    for origin, allowed in (("http://evil.example", False), ("http://testserver", True)):
        headers = {"Origin": origin}
        if allowed:
            with client.websocket_connect("/stream", headers=headers):
                pass
            continue
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/stream", headers=headers),
        ):
            pass
        assert refused.value.status_code == 403


def test_a_silent_stream_is_closed(folder):
    app = create_app(load_models([folder]), Settings(stream_timeout=0.1))
    with TestClient(app) as client, client.websocket_connect("/stream") as stream:
        with pytest.raises(WebSocketDisconnect) as closed:
            stream.receive_json()
        assert closed.value.code == 1001


def test_a_key_of_other_characters_is_refused(serve):
    url = serve(api_key="right").replace("http", "ws")
    with connect(f"{url}/stream") as stream:
        stream.send(json.dumps({"api_key": "r\u00efght"}))
        assert json.loads(stream.recv())["error_type"] == "Unauthorized"


def test_a_word_that_does_not_end_is_limited_as_a_text_is(folder):
    app = create_app(load_models([folder]), Settings(max_characters=10))
    with TestClient(app) as client, client.websocket_connect("/stream") as stream:
        for piece, is_valid in (("word ", True), ("a" * 10, True), ("b", False), (" ", False)):
            stream.send_json({"append": piece})
            assert ("labels" in stream.receive_json()) is is_valid
        stream.send_json({"reset": True, "append": "a" * 10})
        assert stream.receive_json()["num_words"] == 1
