"""Written and spoken digits: each modality alone, both, one missing, one noisy.

Three fusions of the same tokens with equal numbers of weights: the sum, concatenation and
attention. One model of each learns all pairs, with modalities dropped and noise added at random in
the same way. Its learning rate is selected on held-out pairs, and its last epoch is measured.
Unimodal models of the sum stand beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal import MultimodalClassifier, MultimodalNetwork
from hyperagg.multimodal.columns import AudioColumn, ImageColumn
from hyperagg.multimodal.fusion import FUSIONS, make_encoder
from research.data.digit_pairs import Pairs, pair
from research.studies.multimodal.pairs import (
    columns_of,
    noisy_audio,
    noisy_image,
    subset_pairs,
    subset_recordings,
)
from research.studies.multimodal.unimodal import (
    HIDDEN_DIM,
    Effort,
    count_parameters,
    train_unimodal,
)

__all__ = [
    "CASES",
    "MODEL",
    "Effort",
    "compare_fusions",
    "digits_table",
    "hidden_dim_of",
]

logger = logging.getLogger(__name__)

COLUMNS = {"image": "image", "audio": "audio"}
# The modalities of a row, and which of them are noisy.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "both": (("image", "audio"), ()),
    "image": (("image",), ()),
    "audio": (("audio",), ()),
    "both, noisy image": (("image", "audio"), ("image",)),
    "both, noisy audio": (("image", "audio"), ("audio",)),
    "both noisy": (("image", "audio"), ("image", "audio")),
    "noisy image": (("image",), ("image",)),
    "noisy audio": (("audio",), ("audio",)),
}
D_MODEL = {"sum": 128, "concatenation": 128, "attention": 64}
MODEL = "model"  # folder of the model of the sum, first seed


def compare_fusions(
    written: Digits[Images],
    spoken: Digits[AudioClips],
    runs: Runs,
    seeds: int,
    effort: Effort = Effort(),
) -> dict[str, Any]:
    """Measure the accuracy of every fusion in every case, and of unimodal models of the sum.

    The model of the sum with the first seed is saved beside the runs.
    """
    study = _Study(written, spoken, effort, runs.path.parent / MODEL)
    unimodal = train_unimodal(written, spoken, runs, seeds, effort)
    return study.fusions(runs, seeds) | {"unimodal": unimodal}


class _Study:
    def __init__(
        self,
        written: Digits[Images],
        spoken: Digits[AudioClips],
        effort: Effort,
        folder: Path,
    ) -> None:
        self.written, self.spoken, self.effort = written, spoken, effort
        self.folder = folder

    def fusions(self, runs: Runs, seeds: int) -> dict[str, Any]:
        hidden = {
            fusion: hidden_dim_of(fusion, self.spoken.train.sample_rate) for fusion in FUSIONS
        }
        learning_rates = {}
        for fusion in FUSIONS:
            found = {}
            for learning_rate in self.effort.learning_rates:
                key = f"{fusion}|{learning_rate:g}|held out"
                if key not in runs.done:
                    runs.add(key, self.tune(fusion, hidden[fusion], learning_rate))
                found[learning_rate] = runs.done[key]["accuracy"]
            learning_rates[fusion] = max(found, key=lambda each: found[each])
            message = "%s: held-out accuracy by learning rate %s, best %g"
            logger.info(message, fusion, found, learning_rates[fusion])
        models: dict[str, Any] = {}
        for seed in range(seeds):
            for fusion in FUSIONS:
                learning_rate = learning_rates[fusion]
                key = f"{fusion}|{learning_rate:g}|{seed}"
                if key not in runs.done:
                    runs.add(key, self.run(fusion, hidden[fusion], learning_rate, seed))
                cases = {case: round(100 * x, 2) for case, x in runs.done[key]["accuracy"].items()}
                logger.info("%s, seed %d: %s", fusion, seed, cases)
        for fusion in FUSIONS:
            learning_rate = learning_rates[fusion]
            own = [runs.done[f"{fusion}|{learning_rate:g}|{seed}"] for seed in range(seeds)]
            models[fusion] = {
                "accuracy": {case: [run["accuracy"][case] for run in own] for case in CASES},
                "parameters": own[0]["parameters"],
                "seconds": [run["seconds"] for run in own],
                "learning_rate": learning_rate,
                "d_model": D_MODEL[fusion],
                "hidden_dim": hidden[fusion],
            }
        return {"fusions": models}

    def tune(self, fusion: str, hidden_dim: int, learning_rate: float) -> dict[str, Any]:
        """Measure on pairs with held-out recordings, a random fifth of them."""
        recordings = self.spoken.train
        order = np.random.default_rng(0).permutation(len(recordings))
        cut = len(order) // 5
        parts = [
            pair(self.written.train, subset_recordings(recordings, own), 0)
            for own in (order[cut:], order[:cut])
        ]
        number = self.effort.tuning_pairs
        train = subset_pairs(parts[0], number)
        held_out = subset_pairs(parts[1], number + number // 4, number)
        model = self.model(fusion, hidden_dim, learning_rate, 2)
        model.fit(columns_of(train), train.labels.tolist())
        cases = [("image", "audio"), ("image",), ("audio",)]
        columns, labels = columns_of(held_out), held_out.labels.tolist()
        scores = [
            model.evaluate({name: columns[name] for name in names}, labels)["accuracy"]
            for names in cases
        ]
        return {"accuracy": float(np.mean(scores))}

    def run(self, fusion: str, hidden_dim: int, learning_rate: float, seed: int) -> dict[str, Any]:
        """Train on all pairs and measure every case."""
        pairs = pair(self.written.train, self.spoken.train, seed)
        train = subset_pairs(pairs, self.effort.pairs)
        model = self.model(fusion, hidden_dim, learning_rate, self.effort.epochs[0])
        model.fit(columns_of(train), train.labels.tolist(), seed=seed)
        if fusion == "sum" and seed == 0:
            model.save_pretrained(self.folder)  # for the figure of explanations
        tests = subset_pairs(
            pair(self.written.test, self.spoken.test, seed), self.effort.test_pairs
        )
        return {
            "accuracy": {case: self.accuracy(model, tests, case, seed) for case in CASES},
            "parameters": count_parameters(model),
            "seconds": model.history_.seconds,
        }

    def accuracy(self, model: MultimodalClassifier, tests: Pairs, case: str, seed: int) -> float:
        """Measure one case."""
        names, noisy = CASES[case]
        columns: dict[str, Any] = columns_of(tests)
        labels = tests.labels
        rng = np.random.default_rng([seed, 2])
        if "image" in noisy:
            columns["image"] = [noisy_image(x, rng) for x in columns["image"]]
        if "audio" in noisy:
            columns["audio"] = [noisy_audio(x, rng) for x in columns["audio"]]
        own = {name: columns[name] for name in names}
        return model.evaluate(own, labels.tolist())["accuracy"]

    def model(
        self, fusion: str, hidden_dim: int, learning_rate: float, epochs: int
    ) -> MultimodalClassifier:
        """Build an untrained model."""
        return MultimodalClassifier(
            COLUMNS,
            fusion=fusion,
            d_model=D_MODEL[fusion],
            hidden_dim=hidden_dim,
            sample_rate=self.spoken.train.sample_rate,
            epochs=epochs,
            validation_fraction=0,
            learning_rate=learning_rate,
            dropout=self.effort.modality_dropout,
        )


def hidden_dim_of(fusion: str, sample_rate: int) -> int:
    """Find the width of the perceptrons that gives a fusion as many weights as the sum has."""

    def weights(fusion: str, hidden_dim: int) -> int:
        image, audio = ImageColumn(28, 28, 1, 0.13, 0.31), AudioColumn(sample_rate)
        d = D_MODEL[fusion]
        with torch.device("meta"):
            parts = {
                "image": image.make_modality(d, hidden_dim),
                "audio": audio.make_modality(d, hidden_dim),
            }
            network = MultimodalNetwork(make_encoder(fusion, d, parts), 10)
        return sum(p.numel() for p in network.parameters())

    target, narrow = weights("sum", HIDDEN_DIM), weights(fusion, 8)
    per_unit = (weights(fusion, 16) - narrow) / 8
    return round(8 + (target - narrow) / per_unit)


def digits_table(results: Mapping[str, Any]) -> str:
    """Format one row per case and one column per fusion."""
    models = results["fusions"]
    columns = ["test accuracy %", *models]
    rows = [
        [case, *(spread(model["accuracy"][case]) for model in models.values())] for case in CASES
    ]
    rows.append(["parameters", *(f"{model['parameters']:,}" for model in models.values())])
    rows.append(["training, s", *(f"{median(m['seconds']):.0f}" for m in models.values())])
    return markdown_table(columns, rows)
