"""A digit that is written and spoken: each alone, both, one missing, one damaged.

Three fusions of the same tokens, with as many weights each: the sum, concatenation and attention.
One model each learns all pairs, with modalities left out and noise put in at random, alike for all;
its rate is chosen on held-out pairs, its last epoch counts. Beside them, the sum trained on one
modality alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal.columns.media import AudioColumn, ImageColumn
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.estimator import MultimodalModel
from hyperagg.multimodal.fusion import FUSIONS, make_encoder
from research.data.digit_pairs import Pairs, pair
from research.studies.multimodal.digit_rows import (
    cells_of,
    damaged_picture,
    damaged_sound,
    some_pairs,
    some_sounds,
)
from research.studies.multimodal.unimodal import HIDDEN, Effort, count_parameters, train_alone

__all__ = [
    "CASES",
    "MODEL",
    "Effort",
    "compare_fusions",
    "digits_table",
    "hidden_of",
]

KINDS = {"picture": "image", "sound": "audio"}
# Which modalities a row has, and which of them are damaged.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "both": (("picture", "sound"), ()),
    "picture": (("picture",), ()),
    "sound": (("sound",), ()),
    "both, picture noisy": (("picture", "sound"), ("picture",)),
    "both, sound noisy": (("picture", "sound"), ("sound",)),
    "both noisy": (("picture", "sound"), ("picture", "sound")),
    "noisy picture": (("picture",), ("picture",)),
    "noisy sound": (("sound",), ("sound",)),
}
D_MODEL = {"sum": 128, "concatenation": 128, "attention": 64}
# HIDDEN is of the sum; the others have what makes them as large.
MODEL = "model"  # the folder of the first sum


def compare_fusions(
    written: Digits[Images],
    spoken: Digits[AudioClips],
    runs: Runs,
    seeds: int,
    effort: Effort = Effort(),
    *,
    say: Callable[[str], None] = print,
    report: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Accuracy of every fusion in every case, and of the sum on each modality alone; the first sum
    is kept beside the runs."""
    study = _Study(written, spoken, effort, runs.path.parent / MODEL, report)
    alone = train_alone(written, spoken, runs, seeds, effort, say=say, report=report)
    return study.fusions(runs, seeds, say) | {"alone": alone}


class _Study:
    def __init__(
        self,
        written: Digits[Images],
        spoken: Digits[AudioClips],
        effort: Effort,
        folder: Path,
        report: Callable[[float, str], None] | None,
    ) -> None:
        self.written, self.spoken, self.effort, self.report = written, spoken, effort, report
        self.folder = folder

    def fusions(self, runs: Runs, seeds: int, say: Callable[[str], None]) -> dict[str, Any]:
        hidden = {fusion: hidden_of(fusion, self.spoken.train.sample_rate) for fusion in FUSIONS}
        rates = {}
        for fusion in FUSIONS:
            found = {}
            for rate in self.effort.rates:
                key = f"{fusion}|{rate:g}|held out"
                if key not in runs.done:
                    runs.add(key, self.tuned(fusion, hidden[fusion], rate))
                found[rate] = runs.done[key]["accuracy"]
            rates[fusion] = max(found, key=lambda rate: found[rate])
            say(f"{fusion}: on held-out pairs {found}, best {rates[fusion]:g}")
        models: dict[str, Any] = {}
        for seed in range(seeds):
            for fusion in FUSIONS:
                key = f"{fusion}|{rates[fusion]:g}|{seed}"
                if key not in runs.done:
                    runs.add(key, self.trained(fusion, hidden[fusion], rates[fusion], seed))
                told = {case: round(100 * x, 2) for case, x in runs.done[key]["accuracy"].items()}
                say(f"{fusion}, seed {seed}: {told}")
        for fusion in FUSIONS:
            own = [runs.done[f"{fusion}|{rates[fusion]:g}|{seed}"] for seed in range(seeds)]
            models[fusion] = {
                "accuracy": {case: [run["accuracy"][case] for run in own] for case in CASES},
                "parameters": own[0]["parameters"],
                "seconds": [run["seconds"] for run in own],
                "learning_rate": rates[fusion],
                "d_model": D_MODEL[fusion],
                "hidden": hidden[fusion],
            }
        return {"fusions": models}

    def tuned(self, fusion: str, hidden: int, rate: float) -> dict[str, Any]:
        """On pairs whose recordings are not learned: the last fifth of each digit's takes."""
        sounds = self.spoken.train
        order = np.random.default_rng(0).permutation(len(sounds))
        cut = len(order) // 5
        parts = [
            pair(self.written.train, some_sounds(sounds, own), 0)
            for own in (order[cut:], order[:cut])
        ]
        number = self.effort.tuning_pairs
        learned, held = (
            some_pairs(parts[0], number),
            some_pairs(parts[1], number + number // 4, number),
        )
        model = self.model(fusion, hidden, rate, 2)
        model.fit(cells_of(learned), learned.labels.tolist(), report=self.report)
        cases = [("picture", "sound"), ("picture",), ("sound",)]
        cells, labels = cells_of(held), held.labels.tolist()
        scores = [
            model.evaluate({name: cells[name] for name in names}, labels)["accuracy"]
            for names in cases
        ]
        return {"accuracy": float(np.mean(scores))}

    def trained(self, fusion: str, hidden: int, rate: float, seed: int) -> dict[str, Any]:
        pairs = pair(self.written.train, self.spoken.train, seed)
        learned = some_pairs(pairs, self.effort.pairs)
        model = self.model(fusion, hidden, rate, self.effort.epochs[0])
        model.fit(cells_of(learned), learned.labels.tolist(), seed=seed, report=self.report)
        if fusion == "sum" and seed == 0:
            model.save_pretrained(self.folder)  # to be explained
        tests = some_pairs(pair(self.written.test, self.spoken.test, seed), self.effort.test_pairs)
        return {
            "accuracy": {case: self.accuracy(model, tests, case, seed) for case in CASES},
            "parameters": count_parameters(model),
            "seconds": model.history_.seconds,
        }

    def accuracy(self, model: MultimodalModel, tests: Pairs, case: str, seed: int) -> float:
        names, noisy = CASES[case]
        cells: dict[str, Any] = cells_of(tests)
        labels = tests.labels
        rng = np.random.default_rng([seed, 2])
        if "picture" in noisy:
            cells["picture"] = [damaged_picture(x, rng) for x in cells["picture"]]
        if "sound" in noisy:
            cells["sound"] = [damaged_sound(x, rng) for x in cells["sound"]]
        own = {name: cells[name] for name in names}
        return model.evaluate(own, labels.tolist())["accuracy"]

    def model(self, fusion: str, hidden: int, rate: float, epochs: int) -> MultimodalModel:
        return MultimodalModel(
            KINDS,
            fusion=fusion,
            d_model=D_MODEL[fusion],
            hidden=hidden,
            rate=self.spoken.train.sample_rate,
            epochs=epochs,
            validation_fraction=0,
            learning_rate=rate,
            dropout=self.effort.modality_dropout,
        )


def hidden_of(fusion: str, rate: int) -> int:
    """The width of the perceptrons that gives a fusion as many weights as the sum has."""

    def weights(fusion: str, hidden: int) -> int:
        picture, sound = ImageColumn(28, 28, 1, 0.13, 0.31), AudioColumn(rate)
        d = D_MODEL[fusion]
        with torch.device("meta"):
            parts = {"picture": picture.modality(d, hidden), "sound": sound.modality(d, hidden)}
            network = MultimodalNetwork(make_encoder(fusion, d, parts), 10)
        return sum(p.numel() for p in network.parameters())

    wanted, few = weights("sum", HIDDEN), weights(fusion, 8)
    each = (weights(fusion, 16) - few) / 8
    return round(8 + (wanted - few) / each)


def digits_table(results: Mapping[str, Any]) -> str:
    """A case a row, a fusion a column."""
    models = results["fusions"]
    columns = ["test, accuracy %", *models]
    rows = [
        [case, *(spread(model["accuracy"][case]) for model in models.values())] for case in CASES
    ]
    rows.append(["parameters", *(f"{model['parameters']:,}" for model in models.values())])
    rows.append(["seconds of training", *(f"{np.mean(m['seconds']):.0f}" for m in models.values())])
    return markdown_table(columns, rows)
