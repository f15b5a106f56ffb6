"""Unimodal models of the sum: mnist, and fsdd as log-mel frames and as raw samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal import AudioSamples, MultimodalClassifier
from hyperagg.multimodal.columns import AudioColumn

__all__ = ["HIDDEN_DIM", "Effort", "count_parameters", "train_unimodal", "unimodal_table"]

logger = logging.getLogger(__name__)

HIDDEN_DIM = 128
# Kind of the column, learning rate (from short runs on held-out training rows), and description.
MODELS = {
    "image": ("image", 1e-2, "mnist, 14 × 14 patches"),
    "audio": ("audio", 5e-3, "fsdd, log-mel frames"),
    "raw audio": ("audio", 5e-3, "fsdd, raw samples"),
}


@dataclass(frozen=True)
class Effort:
    """How much is trained and measured.

    Args:
        epochs: over pairs, images alone, audio alone, and pairs with texts.
        learning_rates: the values to try.
        pairs: number of training pairs; None for all.
        tuning_pairs: number of pairs that learning rates are tried on, for two epochs.
        test_pairs: number of test pairs; None for all.
        modality_dropout: probability of leaving a modality out in training.
    """

    epochs: tuple[int, int, int, int] = (3, 6, 20, 2)
    learning_rates: tuple[float, ...] = (3e-3, 1e-2)
    pairs: int | None = None
    tuning_pairs: int = 8000
    test_pairs: int | None = None
    modality_dropout: float = 0.33


class RawAudioColumn(AudioColumn):
    """Frames of 25 ms of raw samples, every 12.5 ms."""

    def make_modality(self, d_model: int, hidden_dim: int) -> AudioSamples:
        rate = self.sample_rate
        return AudioSamples(
            d_model, rate, frame_length=rate // 40, hop_length=rate // 80, hidden_dim=hidden_dim
        )


class _RawAudioClassifier(MultimodalClassifier):
    """A classifier whose only column is raw audio."""

    def _fit_column(self, name: str, cells: Any, row_name: Any) -> Any:
        return RawAudioColumn(self.sample_rate)


def train_unimodal(
    written: Digits[Images],
    spoken: Digits[AudioClips],
    runs: Runs,
    seeds: int,
    effort: Effort,
) -> dict[str, Any]:
    """Measure the accuracy of the last epoch on the official test splits."""
    audio, test_audio = (
        [part[i] for i in range(len(part))] for part in (spoken.train, spoken.test)
    )
    images = list(written.train.images), list(written.test.images)
    models: dict[str, Any] = {}
    for name, (kind, learning_rate, _) in MODELS.items():
        is_image = kind == "image"
        train, test = images if is_image else (audio, test_audio)
        data: Digits[Any] = written if is_image else spoken
        for seed in range(seeds):
            key = f"{name}, unimodal|{seed}"
            if key not in runs.done:
                make = _RawAudioClassifier if name == "raw audio" else MultimodalClassifier
                model = make(
                    {name: kind},
                    d_model=128,
                    hidden_dim=HIDDEN_DIM,
                    sample_rate=spoken.train.sample_rate,
                    epochs=effort.epochs[1 if is_image else 2],
                    validation_fraction=0,
                    learning_rate=learning_rate,
                )
                rows = np.arange(len(train))
                if effort.pairs is not None:
                    # Recordings are sorted by digit.
                    rows = np.random.default_rng(0).permutation(rows)[: effort.pairs]
                labels = data.train.labels[rows].tolist()
                model.fit({name: [train[i] for i in rows]}, labels, seed=seed)
                scores = model.evaluate({name: test}, data.test.labels.tolist())
                seconds = model.history_.seconds
                runs.add(key, {**scores, "parameters": count_parameters(model), "seconds": seconds})
            logger.info("%s, seed %d: %.2f %%", name, seed, 100 * runs.done[key]["accuracy"])
        own = [runs.done[f"{name}, unimodal|{seed}"] for seed in range(seeds)]
        models[name] = {
            "accuracy": [run["accuracy"] for run in own],
            "parameters": own[0]["parameters"],
            "seconds": [run["seconds"] for run in own],
        }
    return models


def unimodal_table(results: Mapping[str, Any]) -> str:
    """Format one row per modality."""
    rows = [
        [
            MODELS[name][2],
            spread(model["accuracy"]),
            f"{model['parameters']:,}",
            f"{median(model['seconds']):.0f}",
        ]
        for name, model in results["unimodal"].items()
    ]
    return markdown_table(["unimodal model", "accuracy %", "parameters", "training, s"], rows)


def count_parameters(model: MultimodalClassifier) -> int:
    """Count the trainable parameters."""
    assert model.network_ is not None
    return sum(p.numel() for p in model.network_.parameters())
