"""Checks the arguments of a run of training that do not depend on the data, and applies them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hyperagg._common.progress import progress_bar
from hyperagg._common.validation import check_bool, check_seed
from hyperagg._numba.cpus import usable_cpus
from hyperagg._numba.threads import max_threads
from hyperagg.classifier.history import History
from hyperagg.classifier.training.loop import Callback, Progress, train
from hyperagg.classifier.training.train_step import LabeledDocuments, TrainStep

__all__ = ["RunOptions", "check_run_options"]


@dataclass(frozen=True)
class RunOptions:
    """How a run is seeded, distributed and reported; see `TextClassifier.fit`."""

    seed: int
    threads: int
    progress: bool | None
    callbacks: tuple[Callback, ...]

    def train(
        self,
        title: str,
        train_step: TrainStep,
        data: LabeledDocuments,
        validation: LabeledDocuments | None = None,
        **arguments: Any,
    ) -> History:
        """Run `loop.train` behind a progress bar of this title."""
        metric = "micro-F1" if train_step.objective.multi_label else "accuracy"
        score = ""
        with progress_bar(title, self.progress) as update:

            def report(state: Progress) -> None:
                nonlocal score
                if state.validation_score is not None:
                    score = f"validation {metric} {100 * state.validation_score:.2f} %  "
                speed = state.tokens_per_second
                unit = f"{speed / 1e6:.1f} M" if speed >= 1e6 else f"{speed / 1e3:.0f} k"
                update(
                    state.fraction,
                    f"epoch {state.epoch + 1}/{state.epochs}  loss {state.loss:.3f}  {score}"
                    f"{unit} tokens/s",
                )

            callbacks = (report, *self.callbacks)
            return train(
                train_step, data, validation, seed=self.seed, callbacks=callbacks, **arguments
            )


def check_run_options(
    seed: int, threads: int | None, progress: bool | None, callbacks: Iterable[Callback]
) -> RunOptions:
    """Return the options of a run; `threads` of None stands for `max_threads()`.

    There are at most as many threads as processors: the weights do not depend on the number, and
    further threads would only wait for one another.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
    """
    checked = tuple(callbacks) if isinstance(callbacks, Iterable) else (None,)
    for callback in checked:
        if not callable(callback):
            raise TypeError("callbacks: expected a list of functions of a Progress")
    return RunOptions(
        seed=check_seed(seed),
        threads=min(threads or max_threads(), usable_cpus()),
        progress=None if progress is None else check_bool("progress", progress),
        callbacks=checked,
    )
