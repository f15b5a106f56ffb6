from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hyperagg

uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'hyperagg[serve]'")

from hyperagg.serve import Settings, create_app, load_models  # noqa: E402


@pytest.fixture(scope="session")
def newswires() -> tuple[list[str], list[str]]:
    """Texts and labels of Reuters."""
    train = hyperagg.load_dataset("r8").train
    return list(train.texts[:1000]), list(train.labels[:1000])


@pytest.fixture(scope="session")
def folder(newswires, tmp_path_factory) -> Path:
    """A classifier of newswires."""
    path = tmp_path_factory.mktemp("served") / "news"
    hyperagg.TextClassifier(d_model=16, epochs=5, refit=False).fit(*newswires).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def predictor(folder):
    return hyperagg.load_predictor(folder)


@contextmanager
def serving(app) -> Iterator[str]:
    """The URL of a server in a thread of this process."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve(folder) -> Iterator[Callable[..., str]]:
    """Starts a server of the classifier with the given settings and returns its URL."""
    from contextlib import ExitStack

    with ExitStack() as servers:

        def start(**settings) -> str:
            app = create_app(load_models([folder]), Settings(**settings))
            return servers.enter_context(serving(app))

        yield start


@pytest.fixture(scope="session")
def url(folder) -> Iterator[str]:
    """A server with the default settings."""
    with serving(create_app(load_models([folder]))) as url:
        yield url
