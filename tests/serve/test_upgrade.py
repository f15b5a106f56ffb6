"""Clients that propose another protocol, as those of Java propose HTTP/2, get their answer."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

TEXT = "The company said its net profit rose"
BODY = json.dumps({"inputs": TEXT, "top_k": 1}).encode()
PROPOSAL = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)


def head(length: str, connection: str = PROPOSAL) -> bytes:
    return f"POST /predict HTTP/1.1\r\nHost: a\r\n{connection}{length}\r\n\r\n".encode()


WHOLE = head(f"Content-Length: {len(BODY)}") + BODY
CHUNKED = head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
PLAIN_GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = head(f"Content-Length: {len(BODY)}", "Connection: close\r\n") + BODY


def answers(url: str, *pieces: bytes) -> list[tuple[bytes, bytes]]:
    """The first line and the body of each answer to what is sent in these pieces."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        with connection.makefile("rb") as stream:
            found = []
            while status := stream.readline():
                headers = {}
                while line := stream.readline().strip():
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                found.append((status.strip(), stream.read(int(headers[b"content-length"]))))
            return found


@pytest.mark.parametrize(
    "pieces",
    [
        (WHOLE, LAST),
        (CHUNKED, LAST),
        (WHOLE + WHOLE + LAST,),
        (*(WHOLE[i : i + 7] for i in range(0, len(WHOLE), 7)), LAST),
        (WHOLE[: -len(BODY)], BODY + LAST),
    ],
    ids=["whole", "chunked", "pipelined", "in pieces", "body later"],
)
def test_a_proposal_of_another_protocol_is_declined(url, predictor, pieces):
    """The body used to be lost, so the answer was that it is not valid JSON."""
    found = answers(url, *pieces)
    assert len(found) == (3 if len(pieces) == 1 else 2)
    for status, body in found:
        assert status == b"HTTP/1.1 200 OK"
        assert json.loads(body)[0]["label"] == predictor.predict(TEXT)


def test_a_proposal_without_a_body_is_declined(url):
    proposal = PLAIN_GET.replace(b"Host: a\r\n", b"Host: a\r\n" + PROPOSAL.encode())
    found = answers(url, proposal, LAST)
    assert [status for status, _ in found] == [b"HTTP/1.1 200 OK"] * 2


def test_many_proposals_at_once_are_answered(url):
    proposal = PLAIN_GET.replace(b"Host: a\r\n", b"Host: a\r\n" + PROPOSAL.encode())
    found = answers(url, proposal * 1500 + LAST)
    assert {status for status, _ in found} == {b"HTTP/1.1 200 OK"}
    assert len(found) == 1501
