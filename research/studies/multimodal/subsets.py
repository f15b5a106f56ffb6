"""Text, picture and sound in one model, any subset of them: digits as a word, written, spoken.

The word is no answer: half of the texts name the digit, the other half only say whether it is even
or odd and small or large, so that a text alone cannot know all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal.estimator import MultimodalModel
from research.data.digit_pairs import Pairs, pair
from research.studies.multimodal.digit_rows import cells_of, some_pairs
from research.studies.multimodal.unimodal import HIDDEN, Effort

__all__ = ["compare_subsets", "describe", "subsets_table"]

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = {"text": "text", "picture": "image", "sound": "audio"}
SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(KINDS, size)]


def compare_subsets(
    written: Digits[Images],
    spoken: Digits[AudioClips],
    runs: Runs,
    seeds: int,
    effort: Effort = Effort(),
    *,
    say: Callable[[str], None] = print,
    report: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Accuracy of one model with every subset of its modalities."""
    for seed in range(seeds):
        key = f"{seed}"
        if key not in runs.done:
            train = some_pairs(pair(written.train, spoken.train, seed), effort.pairs)
            test = some_pairs(pair(written.test, spoken.test, seed), effort.test_pairs)
            model = MultimodalModel(
                KINDS,
                rate=train.sample_rate,
                epochs=effort.epochs[3],
                validation_fraction=0,
                learning_rate=effort.rates[-1],
                dropout=effort.modality_dropout,
                hidden=HIDDEN,
            )
            cells = with_text(train, seed)
            model.fit(cells, train.labels.tolist(), seed=seed, report=report)
            cells, labels = with_text(test, seed + 1000), test.labels.tolist()
            scores = {
                " + ".join(own): model.evaluate({name: cells[name] for name in own}, labels)[
                    "accuracy"
                ]
                for own in SUBSETS
            }
            runs.add(key, {"accuracy": scores, "seconds": model.history_.seconds})
        say(f"seed {seed}: {runs.done[key]['accuracy']}")
    own = [runs.done[f"{seed}"] for seed in range(seeds)]
    return {
        "subsets": {
            " + ".join(names): [run["accuracy"][" + ".join(names)] for run in own]
            for names in SUBSETS
        },
        "seconds": [run["seconds"] for run in own],
    }


def with_text(pairs: Pairs, seed: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    texts = [describe(int(digit), rng.random() < 0.5) for digit in pairs.labels]
    return {"text": texts, **cells_of(pairs)}


def describe(digit: int, by_name: bool) -> str:
    """What a text says of a digit: which it is, or no more than two things about it."""
    if by_name:
        return f"this is the digit {NAMES[digit]}"
    size = "small" if digit < 5 else "large"
    return f"this is an {'odd' if digit % 2 else 'even'} digit, a {size} one"


def subsets_table(results: Mapping[str, Any]) -> str:
    rows = [[name, spread(found)] for name, found in results["subsets"].items()]
    return markdown_table(["what a row has", "accuracy %"], rows)
