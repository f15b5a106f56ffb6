from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import hyperagg

uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'hyperagg[serve]'")

from hyperagg.serve import Settings, create_app, load_models  # noqa: E402
from hyperagg.serve.server import _StrictHttp  # noqa: E402

MULTIMODAL_COLUMNS = {
    "note": "text",
    "weight": "number",
    "kind": "category",
    "image": "image",
    "audio": "audio",
}


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
    http = partial(_StrictHttp, request_timeout=60)
    config = uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio", http=http)
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


@pytest.fixture(scope="session")
def language_folders(tmp_path_factory) -> list[Path]:
    """Two language models that were not trained; the second one has a chat template."""
    torch = pytest.importorskip("torch")
    from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
    from hyperagg.language.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["oil prices rose by 5 €", "gold fell, naïve"] * 9, "bpe", 300)
    torch.manual_seed(0)
    config = HyperAggConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, conv_kernel_size=3
    )
    model = HyperAggForCausalLM(config)
    folders = [tmp_path_factory.mktemp("language") / name for name in ("lm", "chat")]
    for folder in folders:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        tokenizer.chat_template = (
            "{% for message in messages %}{% if message.role == 'system' %}"
            "{{ raise_exception('no system messages') }}{% endif %}"
            "{% if message.content == 'divide' %}{{ 1 / 0 }}{% endif %}"
            "{{ message.role + ': ' + message.content + eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}"
        )
    return folders


@pytest.fixture
def serve_language(language_folders) -> Iterator[Callable[..., str]]:
    """Starts a server of the language models with the given limits and returns its URL."""
    from contextlib import ExitStack

    from hyperagg.serve.language.settings import LanguageSettings

    with ExitStack() as servers:

        def start(**limits) -> str:
            settings = Settings(language=LanguageSettings(**limits))
            app = create_app(load_models(language_folders), settings)
            return servers.enter_context(serving(app))

        yield start


@pytest.fixture(scope="session")
def language_url(language_folders) -> Iterator[str]:
    """A server of the language models with the default settings."""
    with serving(create_app(load_models(language_folders))) as url:
        yield url


@pytest.fixture(scope="session")
def multimodal_folder(tmp_path_factory) -> Path:
    """A folder with a classifier and a regressor of tables: fruit and price."""
    pytest.importorskip("torch", reason="needs pip install 'hyperagg[multimodal]'")
    from hyperagg.multimodal import MultimodalClassifier, MultimodalRegressor

    rng = np.random.default_rng(0)
    X = {
        "note": ["red and round", "long and yellow"] * 20,
        "weight": [150.0, None] * 20,
        "kind": ["a", "b"] * 20,
        "image": [rng.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(40)],
        "audio": [rng.normal(size=2000) / 9 for _ in range(40)],
    }
    folder = tmp_path_factory.mktemp("multimodal")
    small = dict(d_model=8, hidden_dim=8, epochs=1)
    model = MultimodalClassifier(MULTIMODAL_COLUMNS, **small).fit(
        X, ["apple", "banana"] * 20, progress=False
    )
    model.save_pretrained(folder / "fruit")
    numbers = {"note": "text", "weight": "number"}
    regressor = MultimodalRegressor(numbers, **small).fit(X, [1.0, 2.0] * 20, progress=False)
    regressor.save_pretrained(folder / "price")
    return folder
