"""The sum, trained on one modality: mnist, and fsdd as log-mel frames and as raw samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal.columns.media import AudioColumn
from hyperagg.multimodal.estimator import MultimodalModel
from hyperagg.multimodal.modalities.audio import AudioSamples
from hyperagg.multimodal.modalities.base import Modality

__all__ = ["HIDDEN", "Effort", "count_parameters", "single_table", "train_alone"]

HIDDEN = 128
# What is learned, the rate (by short trials on held-out training rows), and what it is called.
ALONE = {
    "picture": ("image", 1e-2, "mnist, 14 × 14 patches"),
    "sound": ("audio", 5e-3, "fsdd, log-mel frames"),
    "raw sound": ("audio", 5e-3, "fsdd, raw samples"),
}


@dataclass(frozen=True)
class Effort:
    """How much is trained.

    Args:
        epochs: over the pairs, the pictures alone, the sounds alone, and pairs with texts.
        rates: that are tried.
        pairs: to learn; None: all.
        tuning_pairs: of them that the rates are tried on, for two epochs.
        test_pairs: to measure on; None: all.
        modality_dropout: the share that is left out in training.
    """

    epochs: tuple[int, int, int, int] = (3, 6, 20, 2)
    rates: tuple[float, ...] = (3e-3, 1e-2)
    pairs: int | None = None
    tuning_pairs: int = 8000
    test_pairs: int | None = None
    modality_dropout: float = 0.33


class RawSoundColumn(AudioColumn):
    """Frames of 25 ms of raw samples, every 12.5."""

    def modality(self, d_model: int, hidden: int) -> Modality:
        window, hop = self.rate // 40, self.rate // 80
        return AudioSamples(d_model, self.rate, window=window, hop=hop, hidden=hidden)


class _RawModel(MultimodalModel):
    def _learn_column(self, name: str, cells: Any, place: Any) -> Any:
        return RawSoundColumn(self.rate)


def train_alone(
    written: Digits[Images],
    spoken: Digits[AudioClips],
    runs: Runs,
    seeds: int,
    effort: Effort,
    *,
    say: Callable[[str], None] = print,
    report: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Accuracy on the official test split, of the last epoch."""
    sounds, test_sounds = (
        [part[i] for i in range(len(part))] for part in (spoken.train, spoken.test)
    )
    pictures = list(written.train.images), list(written.test.images)
    found: dict[str, Any] = {}
    for name, (kind, rate, _) in ALONE.items():
        is_picture = kind == "image"
        learned, tests = pictures if is_picture else (sounds, test_sounds)
        data: Digits[Any] = written if is_picture else spoken
        for seed in range(seeds):
            key = f"{name} alone|{seed}"
            if key not in runs.done:
                make = _RawModel if name == "raw sound" else MultimodalModel
                model = make(
                    {name: kind},
                    d_model=128,
                    hidden=HIDDEN,
                    rate=spoken.train.sample_rate,
                    epochs=effort.epochs[1 if is_picture else 2],
                    validation_fraction=0,
                    learning_rate=rate,
                )
                limit = effort.pairs
                labels = data.train.labels[:limit].tolist()
                model.fit({name: learned[:limit]}, labels, seed=seed, report=report)
                scores = model.evaluate({name: tests}, data.test.labels.tolist())
                seconds = model.history_.seconds
                runs.add(key, {**scores, "parameters": count_parameters(model), "seconds": seconds})
            say(f"{name} alone, seed {seed}: {100 * runs.done[key]['accuracy']:.2f} %")
        own = [runs.done[f"{name} alone|{seed}"] for seed in range(seeds)]
        found[name] = {
            "accuracy": [run["accuracy"] for run in own],
            "parameters": own[0]["parameters"],
            "seconds": [run["seconds"] for run in own],
        }
    return found


def single_table(results: Mapping[str, Any]) -> str:
    """A modality a row."""
    rows = [
        [
            ALONE[name][2],
            spread(model["accuracy"]),
            f"{model['parameters']:,}",
            f"{np.mean(model['seconds']):.0f}",
        ]
        for name, model in results["alone"].items()
    ]
    return markdown_table(["trained alone", "accuracy %", "parameters", "seconds"], rows)


def count_parameters(model: MultimodalModel) -> int:
    """Trainable ones, in all."""
    assert model.network is not None
    return sum(p.numel() for p in model.network.parameters())
