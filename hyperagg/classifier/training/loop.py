"""Runs the training loop of the classifier.

An epoch is divided into chunks. Between two chunks the whole state of a run is the model, the
optimizer, the best parameters so far and a few numbers, so a run can stop there and be resumed with
the same result: the order of the documents depends on the seed and the epoch alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hyperagg._common.checkpoint import (
    check_same_run,
    check_space,
    digest_arrays,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from hyperagg._common.interrupt import deferred_interrupt
from hyperagg.classifier.config import TrainingConfig
from hyperagg.classifier.history import History
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training.train_step import LabeledDocuments, TrainStep

__all__ = ["Callback", "Progress", "digest", "read_note", "train"]

TOKENS_PER_CHUNK = 500_000
SECONDS_BETWEEN_CHECKPOINTS = 20.0
_DOCUMENTS_PER_GROUP = 32  # chunks consist of whole groups of documents
_MAX_CHECKED_DOCUMENTS = 32  # whose logits are computed to see whether training diverged

_NO_PLAN: Mapping[str, Any] = MappingProxyType({})

_logger = logging.getLogger("hyperagg")


@dataclass(frozen=True)
class Progress:
    """The state of a training run after a chunk of an epoch.

    Attributes:
        epoch: the current epoch, counted from 0.
        epochs: the number of epochs of the run.
        fraction: the completed fraction of the run, from 0 to 1.
        loss: the mean loss over the documents of the chunk.
        tokens_per_second: the throughput in the chunk.
        validation_score: the score on the held-out rows, after the last chunk of an epoch; else
            None.
    """

    epoch: int
    epochs: int
    fraction: float
    loss: float
    tokens_per_second: float
    validation_score: float | None = None


Callback = Callable[[Progress], object]


def train(
    train_step: TrainStep,
    data: LabeledDocuments,
    validation: LabeledDocuments | None,
    *,
    seed: int,
    stop_after: int | None = None,
    checkpoint: Path | None = None,
    note: Any = None,
    plan: Mapping[str, Any] = _NO_PLAN,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train the model of `train_step`; afterwards it has the parameters of the best epoch.

    Args:
        train_step: the model and how it is trained.
        data: the training documents.
        validation: the held-out documents that determine the best epoch: the one with the greatest
            score or the one with the lowest loss, whichever is later. Without them the last epoch
            is the best.
        seed: determines the order of the documents.
        stop_after: the number of epochs to run (default: all). The learning rate decays as if all
            were run.
        checkpoint: the file that keeps the state of the run. It is left in place.
        note: data for JSON that the checkpoint holds from the start; see `read_note`.
        plan: identifies all runs of which this is one. A checkpoint of another plan is refused.
        resume: continue from the checkpoint if it exists.
        callbacks: functions that are called after every chunk.

    Raises:
        ValueError: the loss is not finite, or the checkpoint belongs to another run.
        KeyboardInterrupt: after Ctrl-C, as soon as the chunk is finished and the checkpoint is
            written; the model has the best parameters so far. A second Ctrl-C stops at once.
    """
    run = _Run(train_step, data, validation, seed, checkpoint, note, plan)
    if resume and checkpoint is not None and checkpoint.exists():
        run.restore()
    elif note is not None:
        run.save()
    with deferred_interrupt() as interrupted:
        while run.epoch < (stop_after or run.config.epochs):
            run.train_chunk(callbacks)
            if interrupted.is_set():
                run.save()
                run.use_best()
                interrupted.raise_()
    run.use_best()
    run.check_parameters()
    return run.history


def read_note(checkpoint: Path, plan: Mapping[str, Any] = _NO_PLAN) -> Any:
    """Return the note of the run that wrote this checkpoint.

    Raises:
        ValueError: the run belongs to another plan, or the file is not a checkpoint.
    """
    record = read_checkpoint(checkpoint)[1]
    run = record["run"]
    check_same_run(checkpoint, run.get("plan") if isinstance(run, dict) else run, plan)
    return record.get("note")


def digest(data: LabeledDocuments) -> str:
    """Return the digest of the tokens and the labels."""
    return digest_arrays(
        array
        for ragged in (data.rows, data.targets)
        for array in (ragged.token_ids, ragged.cu_seqlens)
    )


class _Run:
    """The state of a run between two chunks."""

    def __init__(
        self,
        train_step: TrainStep,
        data: LabeledDocuments,
        validation: LabeledDocuments | None,
        seed: int,
        checkpoint: Path | None,
        note: Any,
        plan: Mapping[str, Any],
    ) -> None:
        self.train_step, self.model = train_step, train_step.model
        self.config: TrainingConfig = train_step.config
        self.data = data
        self.validation = validation if validation is not None and len(validation.rows) else None
        self.seed = seed
        self.checkpoint, self.note, self.plan = checkpoint, note, plan
        self.history = History(num_texts=len(data.rows))
        self.best: ClassifierModel | None = None
        self.order: np.ndarray | None = None
        self.epoch, self.chunk, self.loss, self.seconds = 0, 0, 0.0, 0.0
        self.saved_at = time.monotonic()
        self.owns_checkpoint = False  # whether the file holds a state of this run
        if checkpoint is not None:
            check_space(checkpoint, 2 * sum(array.nbytes for array in self.model.arrays.values()))
        documents, tokens = len(data.rows), len(data.rows.token_ids)
        groups = -(-documents // _DOCUMENTS_PER_GROUP)
        chunks = max(1, min(groups, tokens // TOKENS_PER_CHUNK))
        self.boundaries = [
            min(documents, groups * k // chunks * _DOCUMENTS_PER_GROUP) for k in range(chunks + 1)
        ]

    def train_chunk(self, callbacks: Sequence[Callback]) -> None:
        if self.chunk == 0 or self.order is None:
            rng = np.random.default_rng([self.seed, self.epoch])
            self.order = rng.permutation(len(self.data.rows))
        first, last = self.boundaries[self.chunk : self.chunk + 2]
        documents = self.order[first:last]
        begin, end = (
            (self.epoch + boundary / len(self.order)) / self.config.epochs
            for boundary in (first, last)
        )
        started = time.perf_counter()
        loss = self.train_step.step(self.data, documents, begin, end)
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise self.diverged(f"the loss is not finite in epoch {self.epoch + 1}")
        self.loss += loss
        self.seconds += seconds
        self.chunk += 1
        epoch, score = self.epoch, None
        if self.chunk == len(self.boundaries) - 1:
            score = self.end_epoch()
        if callbacks:
            tokens = int(self.data.rows.lengths[documents].sum())
            progress = Progress(
                epoch=epoch,
                epochs=self.config.epochs,
                fraction=end,
                loss=loss / len(documents),
                tokens_per_second=tokens / max(seconds, 1e-9),
                validation_score=score,
            )
            for callback in callbacks:
                callback(progress)
        if time.monotonic() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def end_epoch(self) -> float | None:
        history, score = self.history, None
        history.loss.append(self.loss / len(self.data.rows))
        history.seconds.append(self.seconds)
        if self.validation is not None:
            self.train_step.sync_to_model()
            logits = self.model.logits(self.validation.rows)
            targets, objective = self.validation.targets, self.train_step.objective
            score = objective.score(targets, logits)
            loss = objective.validation_loss(targets, logits)
            history.validation_score.append(score)
            history.validation_loss.append(loss)
            # The score of few documents is coarse, and may be greatest early by chance.
            if score >= max(history.validation_score) or loss <= min(history.validation_loss):
                history.best_epoch = self.epoch
                self.best = self.model.copy()
        else:
            history.best_epoch = self.epoch
        scored = "" if score is None else f", validation score {score:.4f}"
        _logger.debug(
            "epoch %d/%d: loss %.4f%s", self.epoch + 1, self.config.epochs, history.loss[-1], scored
        )
        self.epoch, self.chunk, self.loss, self.seconds = self.epoch + 1, 0, 0.0, 0.0
        return score

    def use_best(self) -> None:
        if self.best is None:
            self.train_step.sync_to_model()
        else:
            self.model.assign(self.best)

    def check_parameters(self) -> None:
        """The last step of a run may spoil the parameters, and no later loss would show it."""
        for name, array in self.model.arrays.items():
            if not (np.isfinite(array.min()) and np.isfinite(array.max())):
                raise self.diverged(f"parameters ({name}) are not finite after training")
        # Parameters may be finite and too large to be multiplied.
        some = np.arange(min(len(self.data.rows), _MAX_CHECKED_DOCUMENTS))
        if not np.isfinite(self.model.logits(self.data.rows.take(some))).all():
            raise self.diverged("logits are not finite after training")

    def diverged(self, reason: str) -> ValueError:
        # The checkpoint leads to the same end, so it is not worth resuming.
        if self.owns_checkpoint and self.checkpoint is not None:
            remove_checkpoint(self.checkpoint)
        return ValueError(
            f"learning_rate={self.config.learning_rate:g}: {reason}; try a third of this rate"
        )

    def record(self) -> dict[str, Any]:
        return {
            "run": self.identity,
            "epoch": self.epoch,
            "chunk": self.chunk,
            "loss": self.loss,
            "seconds": self.seconds,
            "history": asdict(self.history),
            "note": self.note,
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Identify the run by its plan, configuration, seed, shapes, chunks, weights and data."""
        vocab_size, d_model = self.model.embedding.shape
        validation, weights = self.validation, self.data.weights
        return {
            "plan": dict(self.plan),
            **asdict(self.config),
            "seed": self.seed,
            "vocabulary size": vocab_size,
            "d_model": d_model,
            "classes": len(self.model.bias),
            "pooling": self.model.pooling,
            "data": digest(self.data),
            "validation data": None if validation is None else digest(validation),
            "class weights": digest_arrays([self.train_step.objective.class_weights]),
            "sample weights": None if weights is None else digest_arrays([weights]),
            "chunks": self.boundaries,
        }

    def save(self) -> None:
        if self.checkpoint is None:
            return
        self.train_step.sync_to_model()
        groups = {
            "model": self.model.arrays,
            "optimizer": self.train_step.optimizer_state(),
            "best": {} if self.best is None else self.best.arrays,
        }
        arrays = {
            f"{group}/{name}": array
            for group, named in groups.items()
            for name, array in named.items()
        }
        write_checkpoint(self.checkpoint, arrays, self.record())
        self.saved_at, self.owns_checkpoint = time.monotonic(), True

    def restore(self) -> None:
        assert self.checkpoint is not None
        arrays, record = read_checkpoint(self.checkpoint)
        check_same_run(self.checkpoint, record["run"], self.identity)
        groups: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "best": {}}
        for name, array in arrays.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = array
        self.owns_checkpoint = True
        pooling = self.model.pooling
        self.model.assign(ClassifierModel(**groups["model"], pooling=pooling))
        self.train_step.load_optimizer_state(groups["optimizer"])
        best = groups["best"]
        self.best = ClassifierModel(**best, pooling=pooling) if best else None
        self.history = History(**record["history"])
        self.epoch, self.chunk = record["epoch"], record["chunk"]
        self.loss, self.seconds = record["loss"], record["seconds"]
