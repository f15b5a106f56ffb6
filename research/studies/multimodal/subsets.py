"""Text, image and audio in one model, in any subset: digits described, written and spoken.

Half of the texts name the digit. The other half only state whether it is even or odd and small or
large, so that a text alone does not determine the digit.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal import MultimodalClassifier
from research.data.digit_pairs import Pairs, pair
from research.studies.multimodal.pairs import columns_of, subset_pairs
from research.studies.multimodal.unimodal import HIDDEN_DIM, Effort

__all__ = ["compare_subsets", "describe", "subsets_table"]

logger = logging.getLogger(__name__)

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLUMNS = {"text": "text", "image": "image", "audio": "audio"}
SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(COLUMNS, size)]


def compare_subsets(
    written: Digits[Images],
    spoken: Digits[AudioClips],
    runs: Runs,
    seeds: int,
    effort: Effort = Effort(),
) -> dict[str, Any]:
    """Measure the accuracy of one model with every subset of its modalities."""
    for seed in range(seeds):
        key = f"{seed}"
        if key not in runs.done:
            train = subset_pairs(pair(written.train, spoken.train, seed), effort.pairs)
            test = subset_pairs(pair(written.test, spoken.test, seed), effort.test_pairs)
            model = MultimodalClassifier(
                COLUMNS,
                sample_rate=train.sample_rate,
                epochs=effort.epochs[3],
                validation_fraction=0,
                learning_rate=effort.learning_rates[-1],
                dropout=effort.modality_dropout,
                hidden_dim=HIDDEN_DIM,
            )
            model.fit(with_text(train, seed), train.labels.tolist(), seed=seed)
            columns, labels = with_text(test, seed + 1000), test.labels.tolist()
            scores = {
                " + ".join(own): model.evaluate({name: columns[name] for name in own}, labels)[
                    "accuracy"
                ]
                for own in SUBSETS
            }
            runs.add(key, {"accuracy": scores, "seconds": model.history_.seconds})
        logger.info("seed %d: %s", seed, runs.done[key]["accuracy"])
    own = [runs.done[f"{seed}"] for seed in range(seeds)]
    return {
        "subsets": {
            " + ".join(names): [run["accuracy"][" + ".join(names)] for run in own]
            for names in SUBSETS
        },
        "seconds": [run["seconds"] for run in own],
    }


def with_text(pairs: Pairs, seed: int) -> dict[str, list[Any]]:
    """Build the columns of a model, with a text for every pair."""
    rng = np.random.default_rng(seed)
    texts = [describe(int(digit), rng.random() < 0.5) for digit in pairs.labels]
    return {"text": texts, **columns_of(pairs)}


def describe(digit: int, by_name: bool) -> str:
    """Describe a digit by its name, or only by its parity and size."""
    if by_name:
        return f"this is the digit {NAMES[digit]}"
    size = "small" if digit < 5 else "large"
    return f"this is an {'odd' if digit % 2 else 'even'} digit, a {size} one"


def subsets_table(results: Mapping[str, Any]) -> str:
    """Format the accuracy of every subset."""
    rows = [[name, spread(scores)] for name, scores in results["subsets"].items()]
    return markdown_table(["modalities of a row", "accuracy %"], rows)
