"""The classifier's training loop.

An epoch is cut into chunks. Between two chunks the whole state of a run is the model, the
optimiser, the best weights so far and two numbers, so a run can stop there and go on later to the
same weights: whatever is random in a chunk is drawn from (seed, epoch, chunk) alone.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperagg._common.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from hyperagg.classifier.history import History
from hyperagg.classifier.training.train_steps import Labelled, TrainStep, predict_logits
from hyperagg.classifier.training_config import Recipe
from hyperagg.text import Ragged

__all__ = ["Progress", "read_note", "train"]

TOKENS_PER_CHUNK = 200_000
SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands, as told to a progress bar after every chunk."""

    epoch: int
    share: float
    loss: float
    tokens_per_second: float


def train(
    train_step: TrainStep,
    data: Labelled,
    validation: Labelled | None,
    recipe: Recipe,
    *,
    seed: int,
    stop_after: int | None = None,
    checkpoint: Path | None = None,
    note: Any = None,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> History:
    """Train the train_step's model; on return it has the weights of the best epoch.

    Args:
        train_step: the model and how it steps.
        data: what is learned.
        validation: what decides which epoch was best (its score; of equals, the later). None, or
            without rows: the last epoch is the best.
        recipe: epochs and rates.
        seed: of the order of documents and of everything else that is random.
        stop_after: so many epochs, while rates fall as if there were all of the recipe's.
        checkpoint: where the state is kept while training. It is left there at the end.
        note: what the checkpoint shall hold besides, from the beginning on; see `read_note`.
        resume: go on from that file if it is there.
        report: called after every chunk.

    Raises:
        ValueError: the loss is no longer finite, or the checkpoint is of another run.
        KeyboardInterrupt: after Ctrl-C, once the chunk is learned and the checkpoint written; the
            model then has the best weights so far. A second Ctrl-C stops at once.
    """
    run = _Run(train_step, data, validation, recipe, seed, checkpoint, note)
    if resume and checkpoint is not None and checkpoint.exists():
        run.restore()
    elif note is not None:
        run.save()
    with _interrupt_between_chunks() as interrupted:
        while run.epoch < (stop_after or recipe.epochs):
            run.do_chunk(report)
            if interrupted.is_set():
                run.save()
                run.use_best()
                raise KeyboardInterrupt
    run.use_best()
    run.check_weights()
    return run.history


def read_note(checkpoint: Path) -> Any:
    """What was given to `train` as a note of the run whose checkpoint this is."""
    return read_checkpoint(checkpoint)[1].get("note")


@contextmanager
def _interrupt_between_chunks() -> Iterator[threading.Event]:
    """Ctrl-C sets the event that is given, once; the next one stops the program as usual."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals reach the main thread only
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


class _Run:
    """A run between two chunks."""

    def __init__(
        self,
        train_step: TrainStep,
        data: Labelled,
        validation: Labelled | None,
        recipe: Recipe,
        seed: int,
        checkpoint: Path | None,
        note: Any,
    ) -> None:
        self.train_step = train_step
        self.data = data
        self.validation = validation if validation is not None and len(validation.rows) else None
        self.recipe = recipe
        self.seed = seed
        self.checkpoint, self.note = checkpoint, note
        self.history = History(texts=len(data.rows))
        self.best: dict[str, Tensor] | None = None
        self.order: np.ndarray | None = None
        self.epoch, self.chunk, self.loss, self.seconds = 0, 0, 0.0, 0.0
        self.saved_at = time.monotonic()
        self.kept = False  # whether the file of the checkpoint is of this run
        # Chunks end at whole batches, so that they do not change what a batch is.
        documents, tokens = len(data.rows), len(data.rows.token_ids)
        batches = -(-documents // recipe.batch_size)
        chunks = max(1, min(batches, tokens // TOKENS_PER_CHUNK))
        self.borders = [
            min(documents, batches * k // chunks * recipe.batch_size) for k in range(chunks + 1)
        ]

    def do_chunk(self, report: Callable[[Progress], None] | None) -> None:
        if self.chunk == 0 or self.order is None:
            rng = np.random.default_rng([self.seed, self.epoch])
            self.order = rng.permutation(len(self.data.rows))
        first, last = self.borders[self.chunk : self.chunk + 2]
        documents = self.order[first:last]
        begin, end = (
            (self.epoch + border / len(self.order)) / self.recipe.epochs for border in (first, last)
        )
        # Not torch.manual_seed, which keeps a traceback for every GPU that is not there.
        torch.default_generator.manual_seed(
            zlib.crc32(f"{self.seed} {self.epoch} {self.chunk}".encode())
        )

        started = time.perf_counter()
        try:
            loss = self.train_step.step(self.data, documents, begin, end)
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            loss = np.inf
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise self.diverged(f"the loss is not finite in epoch {self.epoch + 1}")
        self.loss += loss
        self.seconds += seconds
        self.chunk += 1
        if report is not None:
            tokens = int(self.data.rows.lengths[documents].sum())
            report(Progress(self.epoch, end, loss / len(documents), tokens / max(seconds, 1e-9)))
        if self.chunk == len(self.borders) - 1:
            self.end_epoch()
        if time.monotonic() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def end_epoch(self) -> None:
        history = self.history
        history.loss.append(self.loss / len(self.data.rows))
        history.seconds.append(self.seconds)
        if self.validation is not None:
            self.train_step.sync_to_model()
            logits = self.logits(self.validation.rows)
            score = self.train_step.objective.score(self.validation.targets, logits)
            history.validation_score.append(score)
            if score >= max(history.validation_score):
                history.best_epoch = self.epoch
                weights = self.train_step.model.state_dict()
                self.best = {name: tensor.clone() for name, tensor in weights.items()}
        else:
            history.best_epoch = self.epoch
        self.epoch, self.chunk, self.loss, self.seconds = self.epoch + 1, 0, 0.0, 0.0

    def use_best(self) -> None:
        if self.best is None:
            self.train_step.sync_to_model()
        else:
            self.train_step.model.load_state_dict(self.best)

    def check_weights(self) -> None:
        """The last step of a run may spoil the weights, and no loss is left to show it."""
        for name, tensor in self.train_step.model.state_dict().items():
            if not all(map(math.isfinite, tensor.aminmax())):
                raise self.diverged(f"weights ({name}) are not finite at the end")
        # Weights may be finite and too large to be multiplied.
        some = self.data.rows.take(np.arange(min(len(self.data.rows), self.recipe.batch_size)))
        if not np.isfinite(self.logits(some)).all():
            raise self.diverged("logits are not finite at the end")

    def logits(self, rows: Ragged) -> np.ndarray:
        return predict_logits(self.train_step.model, rows, self.recipe.batch_size)

    def diverged(self, what: str) -> ValueError:
        # The state that was kept leads to the same end, so there is nothing to resume.
        if self.kept and self.checkpoint is not None:
            remove_checkpoint(self.checkpoint)
        return ValueError(
            f"learning_rate={self.recipe.learning_rate}: {what}; a smaller rate, say a third of "
            "it, would do"
        )

    def record(self) -> dict[str, Any]:
        return {
            "run": self.fingerprint(),
            "epoch": self.epoch,
            "chunk": self.chunk,
            "loss": self.loss,
            "seconds": self.seconds,
            "history": asdict(self.history),
            "note": self.note,
        }

    def fingerprint(self) -> str:
        """Tells runs apart: the recipe, the seed, the model's shapes, its chunks, the data."""
        sums = [
            zlib.crc32(array.tobytes())
            for part in (self.data, self.validation)
            if part is not None
            for ragged in (part.rows, part.targets)
            for array in (ragged.token_ids, ragged.cu_seqlens)
        ]
        model = self.train_step.model
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        borders = zlib.crc32(repr(self.borders).encode())
        return f"{self.recipe} seed={self.seed} model={shapes} chunks={borders} data={sums}"

    def save(self) -> None:
        if self.checkpoint is None:
            return
        self.train_step.sync_to_model()
        groups = {
            "model": self.train_step.model.state_dict(),
            "optimizer": self.train_step.optimizer_state(),
            "best": self.best or {},
        }
        tensors = {
            f"{group}/{name}": tensor
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        write_checkpoint(self.checkpoint, tensors, self.record())
        self.saved_at, self.kept = time.monotonic(), True

    def restore(self) -> None:
        assert self.checkpoint is not None
        tensors, record = read_checkpoint(self.checkpoint)
        if record["run"] != self.fingerprint():
            raise ValueError(
                f"{self.checkpoint}: of a run with other data or arguments; give the same ones, "
                "or train without resuming"
            )
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        self.kept = True
        self.train_step.model.load_state_dict(groups["model"])
        self.train_step.load_optimizer_state(groups["optimizer"])
        self.best = groups["best"] or None
        self.history = History(**record["history"])
        self.epoch, self.chunk = record["epoch"], record["chunk"]
        self.loss, self.seconds = record["loss"], record["seconds"]
