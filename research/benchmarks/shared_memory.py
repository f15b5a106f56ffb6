"""Memory of several processes that predict with one model, mapped or not (Linux)."""

from __future__ import annotations

import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier, load_predictor
from hyperagg._common.report import environment, write_results
from hyperagg.classifier import serialization
from hyperagg.classifier.model import ClassifierModel
from hyperagg.text import UNKNOWN, WordTokenizer

__all__ = ["FULL_MEMORY", "QUICK_MEMORY", "MemoryEffort", "bench_shared_memory"]

_FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Rss")


@dataclass(frozen=True)
class MemoryEffort:
    """How much is measured.

    Args:
        words: number of words of the model.
        d_model: embedding dimension; 800,000 words of 128 dimensions are 410 MB.
        workers: number of processes.
        documents: number of random documents of 200 words that each process predicts.
    """

    words: int = 800_000
    d_model: int = 128
    workers: int = 8
    documents: int = 2000


FULL_MEMORY = MemoryEffort()
QUICK_MEMORY = MemoryEffort(words=100, d_model=8, workers=1, documents=10)


def bench_shared_memory(effort: MemoryEffort, folder: Path) -> dict[str, Any]:
    """Measure the proportional set sizes of processes that have predicted, in bytes.

    Args:
        effort: how much is measured.
        folder: where results.json goes; the model is a temporary file in it.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        _write_model(Path(name), effort)
        results = {
            "environment": environment(),
            "effort": vars(effort),
            "model_bytes": (Path(name) / "model.safetensors").stat().st_size,
            "mapped": _memory_of_workers(Path(name), True, effort),
            "read": _memory_of_workers(Path(name), False, effort),
        }
    write_results(folder, results)
    return results


def _write_model(folder: Path, effort: MemoryEffort) -> None:
    """Write a model of random parameters; its training would take minutes."""
    classifier = TextClassifier(d_model=effort.d_model, epochs=1)
    classifier.fit(["a b", "c d"] * 20, ["x", "y"] * 20).save_pretrained(folder)
    saved = serialization.read(folder)
    words = [UNKNOWN, *(f"w{i:x}" for i in range(effort.words - 1))]
    model = ClassifierModel.initialize(
        len(words), 2, effort.d_model, saved.config.pooling, np.random.default_rng(0)
    )
    serialization.write(
        folder,
        saved.config,
        saved.decoder,
        saved.class_weight,
        saved.history,
        WordTokenizer(words),
        model,
        None,
        {},
    )


def _memory_of_workers(folder: Path, mmap: bool, effort: MemoryEffort) -> dict[str, int]:
    """Return the sum of each kind of memory over all processes."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Semaphore(0), context.Event()
    processes = [
        context.Process(target=_predict, args=(folder, mmap, effort, ready, done))
        for _ in range(effort.workers)
    ]
    for process in processes:
        process.start()
    try:
        for _ in processes:
            if not ready.acquire(timeout=300):
                raise RuntimeError("a worker was not ready within five minutes")
        found = [_memory_of(process.pid) for process in processes]
    finally:
        done.set()
        for process in processes:
            process.join()
    return {field: sum(own[field] for own in found) for field in _FIELDS}


def _predict(folder: Path, mmap: bool, effort: MemoryEffort, ready: Any, done: Any) -> None:
    predictor = load_predictor(folder, mmap=mmap, threads=1)
    rng = np.random.default_rng(0)
    rows = rng.integers(effort.words, size=(effort.documents, 200))
    predictor.predict([" ".join(f"w{i:x}" for i in row) for row in rows])
    ready.release()
    done.wait()


def _memory_of(process_id: int | None) -> dict[str, int]:
    content = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    pairs = [line.split()[:2] for line in content.splitlines()[1:]]
    return {name[:-1]: 1024 * int(size) for name, size in pairs if name[:-1] in _FIELDS}
