"""The Reuters row of Ekin (2025): 78.63 % for aggregation, 77.96 % for attention.

`original` follows that protocol to the letter, including what favors it: 10,000 words, 256
positions padded in front, the padding summed and attended to like text, attention four times as
wide as the model, and the best *test* epoch of five. `corrected` is the comparison of
`hyperagg compare` on the same newswires: padding is never summed, attention has the same width and
reads the same words as aggregation, held-out training rows select the epoch, and every model has
the training that suits it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import f1_score
from torch import Tensor, nn

from hyperagg._common.report import make_table, spread, times, write_results
from hyperagg._common.runs import Runs
from hyperagg.classifier.comparison.compare import compare
from hyperagg.data import Dataset
from hyperagg.layers import Aggregation
from hyperagg.layers.positions import SinusoidalPositions
from hyperagg.text import Ragged
from research.models.keras_initialization import initialize_like_keras

__all__ = ["ORIGINAL_FIGURES", "reuters", "reuters_table"]

logger = logging.getLogger(__name__)

ORIGINAL_FIGURES = {"aggregation": 0.7863, "attention": 0.7796}
WORDS, LENGTH, D_MODEL, HEADS = 10_000, 256, 256, 4
BATCH_SIZE, EPOCHS, LEARNING_RATE, CLIP = 64, 5, 1e-4, 1.0

# The characters that Keras's text_to_word_sequence replaces before it splits at spaces.
_FILTERED = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))
_PADDING, _START, _UNKNOWN, _FIRST_WORD = 0, 1, 2, 3


def reuters(
    dataset: Dataset,
    protocol: Literal["original", "corrected"],
    seeds: int,
    out: Path,
    *,
    epochs: int | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Run a protocol; write results.json, with the figures of Ekin (2025), to `out`.

    Args:
        dataset: "reuters".
        protocol: see the module docstring.
        seeds: number of seeds.
        out: output folder.
        epochs: number of epochs (default: the protocol's).
        resume: keep the runs that an interrupted call left in `out`.

    Returns:
        The contents of results.json.
    """
    if protocol == "corrected":
        results = compare(dataset, ["words", "attention"], seeds, out, epochs=epochs, resume=resume)
    else:
        results = _run_original(dataset, seeds, out, epochs or EPOCHS, resume)
    results = {"protocol": protocol, **results, "original_figures": ORIGINAL_FIGURES}
    write_results(out, results)
    return results


def reuters_table(results: dict[str, Any]) -> Table:
    """Format the figures beside those of Ekin (2025)."""
    rows = []
    for name, model in results["models"].items():
        ratio = (
            model["train_seconds_per_epoch"]
            / (results["models"]["aggregation"]["train_seconds_per_epoch"])
        )
        rows.append(
            [
                name,
                f"{100 * ORIGINAL_FIGURES[name]:.2f}" if name in ORIGINAL_FIGURES else "",
                spread(model["accuracy"]),
                spread(model["macro_f1"]),
                f"{model['parameters']:,}",
                f"{model['train_seconds_per_epoch']:.2f}",
                times(ratio),
            ]
        )
    columns = [
        "model",
        "Ekin (2025) %",
        "accuracy %",
        "macro-F1 %",
        "parameters",
        "s per epoch",
        "time",
    ]
    return make_table(f"Reuters, {results['protocol']} protocol", columns, rows)


class _OriginalClassifier(nn.Module):
    """Embedding times a trainable sinusoid, a mixer to one vector, and a linear head."""

    def __init__(self, mixer: nn.Module, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, D_MODEL)
        self.positions = SinusoidalPositions(D_MODEL, LENGTH)
        self.mixer = mixer
        self.head = nn.Linear(D_MODEL, classes)
        initialize_like_keras(self)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.mixer(self.embedding(ids) * self.positions(LENGTH)))


class _SumMixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.aggregation = Aggregation(D_MODEL, count_padding=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.aggregation(x)[:, 0]


class _WideAttentionMixer(nn.Module):
    """MultiHeadAttention(num_heads=4, key_dim=256) of Keras, and the mean over 256 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(D_MODEL, 3 * HEADS * D_MODEL)
        self.out = nn.Linear(HEADS * D_MODEL, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, _ = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, HEADS, D_MODEL).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, n, -1)).mean(1)


_MIXERS: dict[str, Callable[[], nn.Module]] = {
    "aggregation": _SumMixer,
    "attention": _WideAttentionMixer,
}


def _run_original(
    dataset: Dataset, seeds: int, out: Path, epochs: int, resume: bool
) -> dict[str, Any]:
    train_ids, test_ids = _keras_ids(dataset)
    classes = sorted({str(label) for label in dataset.train.labels})
    train_y, test_y = (
        torch.tensor([classes.index(str(label)) for label in split.labels])
        for split in (dataset.train, dataset.test)
    )
    runs = Runs(out / "runs.json", f"{dataset.name}, original protocol, {epochs} epochs", resume)
    for seed in range(seeds):
        for name in _MIXERS:
            key = f"{name} seed={seed}"
            if key not in runs.done:
                torch.manual_seed(seed)
                model = _OriginalClassifier(_MIXERS[name](), len(classes))
                runs.add(
                    key, _train(model, name, train_ids, train_y, test_ids, test_y, epochs, seed)
                )
            run = runs.done[key]
            logger.info(
                "%s, seed %d: best test epoch %.2f %%, last epoch %.2f %%",
                name,
                seed,
                100 * run["accuracy"],
                100 * run["last_accuracy"],
            )
    models = {}
    for name in _MIXERS:
        own = [runs.done[f"{name} seed={seed}"] for seed in range(seeds)]
        models[name] = {
            "accuracy": [run["accuracy"] for run in own],
            "accuracy_of_last_epoch": [run["last_accuracy"] for run in own],
            "macro_f1": [run["macro_f1"] for run in own],
            "parameters": own[0]["parameters"],
            "train_seconds_per_epoch": float(np.median([s for run in own for s in run["seconds"]])),
            "predict_documents_per_second": float(
                np.median([run["documents_per_second"] for run in own])
            ),
        }
    ours, baseline = models["aggregation"], models["attention"]
    return {
        "dataset": dataset.name,
        "source": dataset.source,
        "environment": runs.environment(),
        "models": models,
        "ratios": {
            "attention": {
                "train_seconds_per_epoch": baseline["train_seconds_per_epoch"]
                / ours["train_seconds_per_epoch"],
                "predict_documents_per_second": ours["predict_documents_per_second"]
                / baseline["predict_documents_per_second"],
            }
        },
    }


def _train(
    model: nn.Module,
    name: str,
    train_ids: Tensor,
    train_y: Tensor,
    test_ids: Tensor,
    test_y: Tensor,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    # Keras's Adam has this epsilon.
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-7)
    generator = torch.Generator().manual_seed(seed)
    seconds, accuracies, scores, speeds = [], [], [], []
    for epoch in range(epochs):
        started = time.perf_counter()
        batches = torch.randperm(len(train_ids), generator=generator).split(BATCH_SIZE)
        description = f"{name}, seed {seed}, epoch {epoch + 1}"
        for batch in track(batches, description, console=Console(stderr=True), transient=True):
            optimizer.zero_grad()
            F.cross_entropy(model(train_ids[batch]), train_y[batch]).backward()
            nn.utils.clip_grad_value_(model.parameters(), CLIP)
            optimizer.step()
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        with torch.inference_mode():
            predicted = torch.cat([model(batch).argmax(1) for batch in test_ids.split(BATCH_SIZE)])
        speeds.append(len(test_ids) / (time.perf_counter() - started))
        accuracies.append(float((predicted == test_y).float().mean()))
        scores.append(float(f1_score(test_y, predicted, average="macro", zero_division=0)))
    best = int(np.argmax(accuracies))
    return {
        "accuracy": accuracies[best],
        "last_accuracy": accuracies[-1],
        "macro_f1": scores[best],
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "documents_per_second": float(np.median(speeds)),
    }


def _keras_ids(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Token ids as in keras.datasets.reuters.load_data(num_words=10_000), padded in front.

    Words are numbered by their frequency in train and test together, as in the index of Keras; 0
    is padding, 1 starts a newswire, 2 stands for every rarer word.
    """
    splits = [
        [text.lower().translate(_FILTERED).split() for text in split.texts]
        for split in (dataset.train, dataset.test)
    ]
    counts = Counter(word for split in splits for words in split for word in words)
    kept = [word for word, _ in counts.most_common(WORDS - _FIRST_WORD)]
    ids = {word: i for i, word in enumerate(kept, start=_FIRST_WORD)}
    train, test = (
        torch.from_numpy(_pad_in_front([[ids.get(w, _UNKNOWN) for w in words] for words in split]))
        for split in splits
    )
    return train, test


def _pad_in_front(rows: Sequence[list[int]]) -> np.ndarray:
    rows = [[_START, *row] for row in rows]
    cu_seqlens = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    flat = np.array([i for row in rows for i in row], dtype=np.int64)
    return Ragged(flat, cu_seqlens).padded(LENGTH, front=True)
