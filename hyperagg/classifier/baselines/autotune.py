"""fastText's own search for parameters, in a process of its own.

It draws up to ten million buckets of up to 1,000 numbers, so it gets a limit of memory, and it may
not return when the time is short. With a fixed number of buckets it ends its process by a division
by zero: after a trial without n-grams, fastText 0.9.2 keeps 0 buckets. After the search it trains
again with the best parameters, which may take many times as long and is not waited for: they are
read from what it prints before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hyperagg._numba.cpus import default_threads
from hyperagg.classifier.baselines.fasttext import write_training_file
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.training.labels import unique_labels

__all__ = ["autotuned_parameters"]

_MAX_BYTES = 8 * 2**30
_MARGIN_SECONDS = 60
_COMMAND = [sys.executable, "-m", __name__]
# Ours by the names that fastText prints.
_NAMES = {
    "lr": ("learning_rate", float),
    "epoch": ("epochs", int),
    "wordNgrams": ("word_ngrams", int),
    "minn": ("min_chars", int),
    "maxn": ("max_chars", int),
    "dim": ("d_model", int),
}


def autotuned_parameters(
    fold: Fold, seconds: int, threads: int | None = None
) -> dict[str, Any] | None:
    """Return the parameters that fastText finds in a given time, or None if it fails.

    fastText tries random parameters near the best ones so far, so the result depends on the speed
    of the machine.

    Args:
        fold: the rows to learn from and to validate on.
        seconds: duration of the search. It is ended after twice as long, and a minute more.
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
            "verbose": 3,
            **({"loss": "ova"} if multi_label else {}),
        }
        command = [*_COMMAND, json.dumps(options)]
        with closing(_lines(command, 2 * seconds + _MARGIN_SECONDS)) as lines:
            return _best(lines)


def _lines(command: list[str], seconds: float) -> Generator[str]:
    """Run a command, yield what it prints, and kill it after some time or when no more is read."""
    # Into a pipe it would print only at its end.
    terminal, own = os.openpty()
    process = subprocess.Popen(command, stdout=own, stderr=subprocess.DEVNULL)
    os.close(own)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        with os.fdopen(terminal, encoding="utf-8", errors="replace") as lines:
            yield from lines
    except OSError:  # what Linux raises at the end of a terminal
        return
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _best(lines: Iterable[str]) -> dict[str, Any] | None:
    """Read the parameters that follow "Best selected args", of which the loss is the last."""
    found: dict[str, Any] | None = None
    for line in lines:
        name, _, value = (part.strip() for part in line.partition("="))
        if name == "Best selected args":
            found = {}
        elif found is not None and name in _NAMES:
            ours, parse = _NAMES[name]
            found[ours] = parse(value)
        elif found is not None and name == "loss":
            return found
    return None


def _main() -> None:
    import resource

    import fasttext

    resource.setrlimit(resource.RLIMIT_AS, (_MAX_BYTES, _MAX_BYTES))
    fasttext.train_supervised(**json.loads(sys.argv[1]))


if __name__ == "__main__":
    _main()
