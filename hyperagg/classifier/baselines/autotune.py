"""fastText's own search for parameters, in a process of its own.

It draws up to ten million buckets of up to 1,000 numbers, so it gets a limit of memory, and it may
not return when the time is short. With a fixed number of buckets it ends its process by a division
by zero: after a trial without n-grams, fastText 0.9.2 keeps 0 buckets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hyperagg._numba.cpus import default_threads
from hyperagg.classifier.baselines.fasttext import write_training_file
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.training.labels import unique_labels

__all__ = ["autotuned_parameters"]

_MAX_BYTES = 8 * 2**30


def autotuned_parameters(
    fold: Fold, seconds: int, threads: int | None = None
) -> dict[str, Any] | None:
    """Return the parameters that fastText finds in a given time, or None if it fails.

    fastText tries random parameters near the best ones so far, so the result depends on the speed
    of the machine.

    Args:
        fold: the rows to learn from and to validate on.
        seconds: duration of the search. It is ended after ten times as long, and ten minutes more.
        threads: as for `FastTextClassifier`.
    """
    classes = unique_labels([*fold.labels, *fold.held_out_labels])
    multi_label = isinstance(fold.labels[0], tuple)
    with TemporaryDirectory() as folder:
        train, held_out = Path(folder) / "train.txt", Path(folder) / "held_out.txt"
        write_training_file(train, fold.texts, fold.labels, classes, 0)
        write_training_file(held_out, fold.held_out_texts, fold.held_out_labels, classes, 0)
        options = {
            "input": str(train),
            "autotuneValidationFile": str(held_out),
            "autotuneDuration": seconds,
            "thread": threads or default_threads(),
            "seed": 0,
            "verbose": 0,
            **({"loss": "ova"} if multi_label else {}),
        }
        command = [sys.executable, "-m", __name__, json.dumps(options)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=10 * seconds + 600, check=True
            )
        except (subprocess.SubprocessError, OSError):
            return None
    return json.loads(done.stdout.splitlines()[-1])


def _main() -> None:
    import resource

    import fasttext

    resource.setrlimit(resource.RLIMIT_AS, (_MAX_BYTES, _MAX_BYTES))
    found = fasttext.train_supervised(**json.loads(sys.argv[1])).f.getArgs()
    parameters = {
        "learning_rate": found.lr,
        "epochs": found.epoch,
        "word_ngrams": found.wordNgrams,
        "min_chars": found.minn,
        "max_chars": found.maxn,
        "d_model": found.dim,
    }
    print(json.dumps(parameters))


if __name__ == "__main__":
    _main()
