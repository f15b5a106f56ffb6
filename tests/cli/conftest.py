from __future__ import annotations

import csv
import io
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

import hyperagg
from hyperagg.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int | str | None
    out: str
    err: str


@pytest.fixture(scope="session")
def cli() -> Callable[..., Answer]:
    """Runs a command in this process; an exception that a user would see as a traceback is
    raised."""

    def call(*arguments: object, stdin: bytes = b"") -> Answer:
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        argv = ["hyperagg", *map(str, arguments)]
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            mock.patch.object(sys, "argv", argv),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
            # What a command prints must not depend on how long it takes.
            mock.patch("hyperagg._common.progress.SECONDS_BETWEEN_LINES", math.inf),
            pytest.raises(SystemExit) as stop,
        ):
            main()
        out.seek(0)
        return Answer(stop.value.code, out.read(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def fresh() -> Callable[..., Answer]:
    """Runs a command in a process of its own."""

    def call(*arguments: object, stdin: bytes = b"", **environment: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-c", "from hyperagg.cli import main; main()", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=120,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


@pytest.fixture(scope="session")
def rows() -> list[tuple[str, str]]:
    """1,000 newswires and their topics, as (text, label)."""
    try:
        train = hyperagg.load_dataset("r8").train
    except ValueError as error:
        pytest.skip(f"r8 is not available: {error}")
    return list(zip(train.texts, train.labels, strict=True))[:1000]


@pytest.fixture(scope="session")
def table(rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows as a CSV file."""
    path = tmp_path_factory.mktemp("table") / "news.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="session")
def model(cli: Callable[..., Answer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the classes "bad" and "good"."""
    folder = tmp_path_factory.mktemp("model")
    table = folder / "films.csv"
    films = ["a dull film,bad", "a fine film,good"] * 20
    table.write_text("\n".join(["text,label", *films]))
    assert cli("train", table, "--out", folder / "model", "--d-model", 4).code == 0
    return folder / "model"
