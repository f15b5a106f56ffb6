"""Latency of a language model behind the server, with and without kept states.

The model has random weights: neither the time nor the size of a state depends on them.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch
import uvicorn

from hyperagg._common.report import environment, write_results
from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
from hyperagg.language.tokenizer import train_tokenizer
from hyperagg.serve import Settings, create_app, load_models
from hyperagg.serve.language.settings import LanguageSettings

__all__ = ["FULL_SERVE_LANGUAGE", "QUICK_SERVE_LANGUAGE", "ServeEffort", "bench_serve_language"]


@dataclass(frozen=True)
class ServeEffort:
    """How much is measured.

    Args:
        context: tokens of a prompt.
        repeats: prompts of that length, each read once and then continued from its kept state.
        streams: numbers of texts that are generated at the same time.
        tokens: tokens per text.
        hidden_size, layers: the size of the model.
    """

    context: int = 100_000
    repeats: int = 5
    streams: tuple[int, ...] = (1, 4, 16)
    tokens: int = 100
    hidden_size: int = 256
    layers: int = 4


FULL_SERVE_LANGUAGE = ServeEffort()
QUICK_SERVE_LANGUAGE = ServeEffort(
    context=2000, repeats=2, streams=(1, 2), tokens=5, hidden_size=16, layers=1
)


def bench_serve_language(effort: ServeEffort, folder: Path) -> dict[str, Any]:
    """Measure the time to the first token, and the tokens per second of simultaneous streams.

    Args:
        effort: how much is measured.
        folder: where results.json goes.

    Raises:
        RuntimeError: a state was not kept, or the kept state gave another answer.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        model = _save_model(Path(name) / "lm", effort)
        with _serving(Path(name) / "lm") as url:
            first: dict[str, list[float]] = {"read": [], "kept": []}
            for _ in range(effort.repeats):
                prompt = rng.integers(1, model.config.vocab_size, effort.context).tolist()
                whole = _first_token(url, prompt)
                again = _first_token(url, prompt)
                if again["usage"]["prompt_tokens_details"]["cached_tokens"] != len(prompt) - 1:
                    raise RuntimeError("the state of the prompt was not kept")
                if again["text"] != whole["text"]:
                    raise RuntimeError("the kept state gave another answer")
                first["read"].append(whole["seconds"])
                first["kept"].append(again["seconds"])
            results = {
                "environment": environment(),
                "effort": asdict(effort),
                "parameters": model.num_parameters(),
                "torch_threads": torch.get_num_threads(),
                "seconds_to_first_token": {
                    way: {"median": float(np.median(times)), "all": times}
                    for way, times in first.items()
                },
                "state_bytes": whole["usage"]["state_bytes"],
                "tokens_per_second": {
                    str(number): _throughput(url, number, effort.tokens)
                    for number in effort.streams
                },
            }
    write_results(folder, results)
    return results


def _save_model(folder: Path, effort: ServeEffort) -> HyperAggForCausalLM:
    tokenizer = train_tokenizer(["oil prices rose"], "bpe", 300)
    torch.manual_seed(0)
    config = HyperAggConfig(
        # The tokenizer has no names for most ids, and the benchmark needs none.
        vocab_size=8192,
        hidden_size=effort.hidden_size,
        num_hidden_layers=effort.layers,
    )
    model = HyperAggForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The URL of a server in a thread of this process."""
    limits = LanguageSettings(max_prompt_tokens=10**6)
    settings = Settings(language=limits, max_body_bytes=10**8, access_log=False)
    app = create_app(load_models([folder]), settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1/completions"
    finally:
        server.should_exit = True
        thread.join()


def _post(url: str, **body: Any) -> Any:
    data = json.dumps({"model": "lm", **body}).encode()
    return urlopen(Request(url, data, {"Content-Type": "application/json"}))


def _first_token(url: str, prompt: Sequence[int]) -> dict[str, Any]:
    """Return the seconds from the request to the answer of one token, the token, and the usage."""
    begun = time.perf_counter()
    with _post(url, prompt=prompt, max_tokens=1, temperature=0) as answer:
        body = json.load(answer)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "text": body["choices"][0]["text"], "usage": body["usage"]}


def _throughput(url: str, number: int, tokens: int) -> float:
    """Return the tokens per second of streams that run at the same time."""
    counts: list[int] = []

    def read(seed: int) -> None:
        with _post(url, prompt=[seed + 1], max_tokens=tokens, seed=seed) as answer:
            counts.append(json.load(answer)["usage"]["completion_tokens"])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(number)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)
