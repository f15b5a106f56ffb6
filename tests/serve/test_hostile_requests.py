"""Requests that schemathesis makes from the OpenAPI page, and raw ones, never give a status 500."""

from __future__ import annotations

import json
import os
import socket
from urllib.parse import urlsplit

import pytest
import requests

schemathesis = pytest.importorskip("schemathesis", reason="needs pip install schemathesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hyperagg.serve import create_app, load_models  # noqa: E402

# By hand: HYPERAGG_EXAMPLES=2000 pytest tests/serve/test_hostile_requests.py
EXAMPLES = int(os.environ.get("HYPERAGG_EXAMPLES", "20"))
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def schema(folder):
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(load_models([folder])))


@given(data=st.data())
@MANY
def test_no_request_of_the_openapi_page_gives_a_server_error(schema, data):
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 10
    case = data.draw(data.draw(st.sampled_from(operations)).as_strategy())
    assert case.call().status_code < 500


# What JSON can hold, and text that is nearly JSON.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
BODIES = st.dictionaries(
    st.sampled_from(["inputs", "texts", "top_k", "labels", "parameters", "truncate"]), VALUES
)


@given(body=BODIES, path=st.sampled_from(["/predict", "/explain", "/"]))
@MANY
def test_any_value_of_any_argument_is_answered(url, body, path):
    # NaN, infinities and lone surrogates included.
    sent = json.dumps(body).encode()
    answer = requests.post(url + path, data=sent)
    assert answer.status_code in (200, 413, 422)
    answer.json()


@given(content=st.binary(max_size=200))
@MANY
def test_any_bytes_are_answered_or_the_connection_is_closed(url, content):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    assert not answer.startswith(b"HTTP/1.1 5")
    assert requests.get(f"{url}/health").status_code == 200
