"""Converted fastText models beside fastText: their labels, probabilities and documents/s.

fastText predicts text by text through its compiled module, which is faster than its Python method;
both predict with one thread, and their runs alternate.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier, load_predictor
from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, write_results
from hyperagg.data import Dataset
from research.benchmarks.interleaved import interleaved

__all__ = ["FULL_FILES", "QUICK_FILES", "FilesEffort", "bench_fasttext_files", "files_table"]

logger = logging.getLogger(__name__)

_PREFIX = "__label__"
_SHAPE = dict(dim=16, minn=1, maxn=4, wordNgrams=2, bucket=200_000, lr=0.5, thread=1, verbose=0)
_PRUNED = dict(cutoff=30_000, retrain=True, qnorm=True, epoch=1, lr=0.1, thread=1)


@dataclass(frozen=True)
class FilesEffort:
    """How much is measured.

    Args:
        epochs: the number of passes over the training texts of each model.
        rows: the number of training and of test texts (default: all).
        rounds: the least number of runs of each prediction.
        pruned: arguments of fastText's quantize for the pruned models.
    """

    epochs: int = 3
    rows: int | None = None
    rounds: int = 7
    pruned: bool = True


FULL_FILES = FilesEffort()
QUICK_FILES = FilesEffort(epochs=1, rows=300, rounds=1, pruned=False)


def bench_fasttext_files(
    dataset: Dataset, files: Sequence[Path], effort: FilesEffort, folder: Path
) -> dict[str, Any]:
    """Compare converted models with fastText on all test texts of a data set.

    Args:
        dataset: its training texts train a model of each loss; the test texts are predicted.
        files: further models.
        effort: how much is measured.
        folder: where results.json goes; models are temporary files in it.

    Raises:
        ImportError: fastText is not installed.
    """
    try:
        import fasttext
    except ImportError as error:
        raise ImportError(
            "bench fasttext-files requires fastText: pip install 'hyperagg[baselines]'",
            name="fasttext",
        ) from error
    fasttext.FastText.eprint = lambda text: None  # a warning at every load
    train, test = dataset.train, dataset.test
    texts = [" ".join(text.split()) for text in test.texts[: effort.rows]]
    models: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        trained = _train(fasttext, train.texts, train.labels, effort, Path(name))
        for file in [*files, *trained]:
            models[file.name] = found = _compare(fasttext, file, texts, effort, Path(name))
            logger.info(
                f"{file.name}: {found['other_labels']} other labels in {len(texts):,} texts"
            )
    results = {
        "environment": environment() | {"fasttext-wheel": version("fasttext-wheel")},
        "dataset": dataset.name,
        "texts": len(texts),
        "characters_per_text": float(np.mean([len(text) for text in texts])),
        "models": models,
    }
    write_results(folder, results)
    with atomic_write(folder / "table.md") as draft:
        draft.write_text(files_table(results) + "\n", "utf-8")
    return results


def files_table(results: Mapping[str, Any]) -> str:
    """Return the table of the results of `bench_fasttext_files` in Markdown."""
    lines = [
        "| model | MB | converted, MB | other labels | greatest difference of probabilities "
        "| documents/s | fastText |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, model in results["models"].items():
        speed = model["documents_per_second"]
        lines.append(
            f"| {name} | {model['file_bytes'] / 1e6:.1f} | {model['converted_bytes'] / 1e6:.1f} | "
            f"{model['other_labels']} | {model['greatest_difference']:.0e} | "
            f"{speed['hyperagg']:,.0f} | {speed['fasttext']:,.0f} |"
        )
    return "\n".join(lines)


def _train(
    fasttext: Any, texts: Sequence[str], labels: Sequence[Any], effort: FilesEffort, folder: Path
) -> list[Path]:
    order = np.random.default_rng(0).permutation(len(texts))[: effort.rows]
    rows = folder / "rows.txt"
    with rows.open("w", encoding="utf-8") as file:
        for i in order.tolist():
            file.write(f"{_PREFIX}{labels[i]} {' '.join(texts[i].split())}\n")
    files = []
    for loss in ("hs", "ns", "softmax"):
        model = fasttext.train_supervised(str(rows), loss=loss, epoch=effort.epochs, **_SHAPE)
        files.append(folder / f"{loss}.bin")
        model.save_model(str(files[-1]))
        if effort.pruned:
            model.quantize(input=str(rows), **_PRUNED)
            files.append(folder / f"{loss}.ftz")
            model.save_model(str(files[-1]))
    return files


def _compare(
    fasttext: Any, file: Path, texts: Sequence[str], effort: FilesEffort, folder: Path
) -> dict[str, Any]:
    theirs = fasttext.load_model(str(file))
    started = time.perf_counter()
    classifier = TextClassifier.from_fasttext(file)
    seconds = time.perf_counter() - started
    classifier.save_pretrained(folder / "converted")
    predictor = load_predictor(folder / "converted", mmap=True, threads=1)
    lines = [text + "\n" for text in texts]

    def predict() -> list[str]:
        return [theirs.f.predict(line, 1, 0.0, "strict")[0][1] for line in lines]

    expected = [name.removeprefix(_PREFIX) for name in predict()]
    found = predictor.predict(list(texts))
    columns = {_PREFIX + str(label): c for c, label in enumerate(predictor.classes_)}
    probabilities = np.full((len(texts), len(columns)), np.nan)
    for row, line in zip(probabilities, lines):
        for value, name in theirs.f.predict(line, -1, 0.0, "strict"):
            row[columns[name]] = value
    ours = predictor.predict_proba(list(texts)).astype(np.float64)
    differences = np.abs(probabilities - ours)
    result = {
        "classes": len(columns),
        "other_labels": sum(a != b for a, b in zip(found, expected)),
        "greatest_difference": float(np.nanmax(differences)),
        # With a step of fastText's sigmoid between the two logits, which differ by rounding.
        "differences_above_1e-3": int(np.nansum(differences > 1e-3)),
        "file_bytes": file.stat().st_size,
        "converted_bytes": (folder / "converted" / "model.safetensors").stat().st_size,
        "conversion_seconds": seconds,
    }
    if predictor.model.tree is not None:
        scores = np.exp(predictor.logits(list(texts)).astype(np.float64))
        result["greatest_difference_of_scores"] = float(np.nanmax(np.abs(probabilities - scores)))
    calls = {"fasttext": predict, "hyperagg": lambda: predictor.predict(list(texts))}
    medians = interleaved(calls, rounds=effort.rounds)
    result["documents_per_second"] = {name: len(texts) / s for name, s in medians.items()}
    return result
