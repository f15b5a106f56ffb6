"""The server as processes: no answer is lost or wrong when a worker or the server is ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from hyperagg.serve import Settings, run

TEXTS = ["The company said its net profit rose", "wheat and corn", "oil prices fell", "a ship"]


class Server:
    """A `hyperagg serve` in a process of its own."""

    def __init__(self, folder: Path, log: Path, *options: str) -> None:
        self.log = log
        command = [sys.executable, "-m", "hyperagg", "serve", str(folder), "--port", "0", *options]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr)
        address = self.wait_for(r"at http://127\.0\.0\.1:(\d+)")
        self.port = int(address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """The last match of a pattern in the log, when it occurs so many times."""
        while True:
            ended = self.process.poll() is not None
            found = list(re.finditer(pattern, self.log.read_text("utf-8")))
            if len(found) >= times:
                return found[-1]
            assert not ended, self.log.read_text("utf-8")
            time.sleep(0.05)


@pytest.fixture
def start(folder, tmp_path):
    servers = []

    def start(*options: str) -> Server:
        servers.append(Server(folder, tmp_path / f"log-{len(servers)}", *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait()


class Clients:
    """Threads that ask again and again, and count what comes back."""

    def __init__(self, url: str, predictor, number: int = 4) -> None:
        self.url, self.stop, self.counts = url, threading.Event(), Counter[str]()
        self.expected = {text: predictor.predict(text, top_k=1) for text in TEXTS}
        self.threads = [threading.Thread(target=self._ask) for _ in range(number)]

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        session = requests.Session()
        while not self.stop.is_set():
            for text in TEXTS:
                try:
                    answer = session.post(
                        f"{self.url}/predict", json={"inputs": text, "top_k": 1}, timeout=60
                    )
                except requests.ConnectionError:
                    self.counts["no connection"] += 1
                    time.sleep(0.01)
                    continue
                (found,) = answer.json() if answer.status_code == 200 else (None,)
                right = found and [(found["label"], found["score"])] == self.expected[text]
                self.counts["right" if right else f"wrong ({answer.status_code})"] += 1

    def wait_for_answers(self, number: int) -> None:
        goal = self.counts["right"] + number
        while self.counts["right"] < goal:
            time.sleep(0.01)


def test_a_killed_worker_is_replaced_and_no_answer_is_wrong(start, predictor):
    server = start("--workers", "2", "--no-access-log")
    server.wait_for("Application startup complete", times=2)
    first = json.loads(server.wait_for(r"\{.*Application startup complete.*")[0])["process"]
    with Clients(server.url, predictor) as clients:
        clients.wait_for_answers(50)
        os.kill(first, signal.SIGKILL)
        server.wait_for("Application startup complete", times=3)
        clients.wait_for_answers(50)
        before = clients.counts["no connection"]
        server.process.terminate()
        server.process.wait()
    assert set(clients.counts) <= {"right", "no connection"}
    assert before <= len(clients.threads)  # at most what the killed worker was answering
    assert server.process.returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_finishes_what_runs_and_takes_no_more(start, predictor, workers):
    server = start("--workers", workers)
    # The address is in the log as soon as it answers.
    assert requests.get(f"{server.url}/health", timeout=60).ok
    server.wait_for("Application startup complete", times=int(workers))
    body = json.dumps({"inputs": TEXTS[0], "top_k": 1}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with (
        socket.create_connection(("127.0.0.1", server.port)) as running,
        Clients(server.url, predictor) as clients,
    ):
        running.sendall(head + body[:5])
        clients.wait_for_answers(50)
        server.process.terminate()
        server.wait_for("Shutting down", times=int(workers))
        time.sleep(0.2)
        running.sendall(body[5:])
        answer = b""
        while block := running.recv(65536):
            answer += block
        assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
        server.process.wait(60)
    assert json.loads(answer.split(b"\r\n\r\n")[1])[0]["label"] == predictor.predict(TEXTS[0])
    assert set(clients.counts) <= {"right", "no connection"}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log
    # Every answer is in the log, although lines are written together.
    lines = [json.loads(line) for line in log.splitlines()]
    answered = [line for line in lines if line.get("path") == "/predict"]
    assert all(line["status"] == 200 for line in answered)
    assert len(answered) >= clients.counts["right"] + 1


def test_headers_must_arrive_in_time(start):
    server = start("--request-timeout", "0.3")
    for sent in (b"", b"POST /predict HTTP/1.1\r\nHo"):
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(sent)
            assert slow.recv(1000) == b""
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /hea")
        answer = b""
        while block := slow.recv(1000):
            answer += block
    assert answer.count(b"HTTP/1.1") == answer.count(b"200 OK") == 1


def test_workers_that_cannot_start_say_why_in_one_line(tmp_path):
    command = [sys.executable, "-m", "hyperagg", "serve", str(tmp_path), "--workers", "2"]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "it has no config.json" in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_cannot_start_says_why(folder, tmp_path):
    with pytest.raises(ValueError, match="it has no config"):
        run([str(tmp_path)], Settings(), port=0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = rf"--port {port}: cannot be used \(Address already in use\)"
        with pytest.raises(ValueError, match=message):
            run([str(folder)], Settings(), port=port)
    with pytest.raises(ValueError, match="--workers 2: feedback changes the model of one process"):
        run([str(folder)], Settings(feedback_token="secret"), workers=2)
    with pytest.raises(ValueError, match="models need different names"):
        run([str(folder), str(folder)], Settings())
    with pytest.raises(ValueError, match="api_key: expected printable ASCII") as error:
        Settings(api_key="sécret")
    assert "cret" not in str(error.value)


def test_feedback_needs_a_key(folder):
    command = [sys.executable, "-m", "hyperagg", "serve", str(folder), "--allow-feedback"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--allow-feedback: needs a key" in done.stderr
