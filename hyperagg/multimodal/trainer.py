"""Training of a multimodal network: its optimizers, its batches and the mean loss of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperagg._common.torch_trainer import (
    TorchTrainer,
    TrainingHistory,
    isolated_accelerator,
    warmup_cosine,
)
from hyperagg.multimodal.batches import Rows
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.modalities.tabular import Words

__all__ = ["Progress", "TrainingConfig", "predict", "train"]

WARMUP_FRACTION = 0.05
_NO_IDENTITY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained: a short warm-up, then a cosine schedule.

    Args:
        epochs: number of passes over the rows.
        learning_rate: highest learning rate of AdamW.
        embedding_learning_rate: highest learning rate of Adagrad, for the embeddings of words.
        batch_size: rows per step.
        weight_decay: weight decay of linear maps and convolutions.
        dropout: fraction of the modalities that a step leaves out; every row keeps one.
        augment: whether images and audio are varied at random.
        patience: number of epochs without a better one after which training stops; None: it does
            not.
    """

    epochs: int
    learning_rate: float
    embedding_learning_rate: float
    batch_size: int
    weight_decay: float
    dropout: float
    augment: bool
    patience: int | None = None


@dataclass(frozen=True)
class Progress:
    """The state of a run after a step.

    Attributes:
        epoch: index of the current epoch, from 0.
        epochs: number of epochs of the run.
        fraction: completed fraction of the run, from 0 to 1.
        loss: training loss, a running mean over the last steps.
        validation_score: score after the last completed epoch; None before the first has ended, and
            without validation rows.
    """

    epoch: int
    epochs: int
    fraction: float
    loss: float
    validation_score: float | None = None


def train(
    network: MultimodalNetwork,
    rows: Rows,
    loss: Callable[[Tensor, np.ndarray], Tensor],
    config: TrainingConfig,
    *,
    seed: int,
    validate: Callable[[], tuple[float, float]] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] = _NO_IDENTITY,
    report: Callable[[Progress], None] | None = None,
) -> TrainingHistory:
    """Train a network in place; in the end it has the weights of the best epoch.

    Everything random in a step is drawn from the seed, the epoch and the position of the step in
    it, so a run that was stopped resumes to the same weights.

    Args:
        network: the network.
        rows: the training rows.
        loss: maps logits (B, C) and the indices (B,) of their rows to the mean loss.
        config: hyperparameters.
        seed: seed of the order of rows, of dropout and of augmentation.
        validate: returns the score of the validation rows and what decides on the best epoch,
            higher is better; called after every epoch. None: the last epoch is the best.
        checkpoint: file for the state of the run, written every 20 seconds and after Ctrl-C.
        resume: whether to continue from the checkpoint, if there is one.
        identity: JSON values by name that identify the data and the columns; a checkpoint with
            others is refused.
        report: called after every step.

    Returns:
        losses and scores by epoch.

    Raises:
        ValueError: the loss is not finite, the checkpoint belongs to another run, or there are
            several processes.
        KeyboardInterrupt: after Ctrl-C, once the step has ended and a checkpoint is written.
    """
    steps_per_epoch = max(1, math.ceil(len(rows) / config.batch_size))
    steps = config.epochs * steps_per_epoch
    optimizers = _make_optimizers(network, config)

    def callback(trainer: TorchTrainer) -> None:
        if report is not None:
            scores = trainer.history.score
            state = (trainer.epoch, config.epochs, trainer.step / steps, trainer.recent_loss)
            report(Progress(*state, scores[-1] if scores else None))

    with isolated_accelerator() as accelerator:
        if accelerator.num_processes > 1:
            raise ValueError(
                f"{accelerator.num_processes} processes were launched: expected one, multimodal "
                "models do not train in several"
            )
        return TorchTrainer(
            network,
            optimizers,
            _Loss(rows, loss, config, seed, steps_per_epoch),
            accelerator,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            schedule=warmup_cosine(steps, round(WARMUP_FRACTION * steps)),
            clip=[p for group in optimizers[0].param_groups for p in group["params"]],
            identity={**asdict(config), "seed": seed, **identity},
            validate=validate,
            patience=config.patience,
            checkpoint=checkpoint,
            callbacks=[callback],
        ).run(resume)


def predict(network: MultimodalNetwork, rows: Rows, batch_size: int = 256) -> np.ndarray:
    """Return the logits (rows, C)."""
    training = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(rows), batch_size):
            indices = np.arange(begin, min(begin + batch_size, len(rows)))
            parts.append(network(rows.batch(indices), len(indices)).numpy())
    network.train(training)
    return np.concatenate(parts)


class _Loss:
    """The mean loss of the batch of a step."""

    def __init__(
        self,
        rows: Rows,
        loss: Callable[[Tensor, np.ndarray], Tensor],
        config: TrainingConfig,
        seed: int,
        steps_per_epoch: int,
    ) -> None:
        self.rows, self.loss, self.config, self.seed = rows, loss, config, seed
        self.steps_per_epoch = steps_per_epoch
        self.epoch, self.order = -1, np.empty(0, np.int64)

    def __call__(self, network: nn.Module, step: int, part: slice) -> tuple[Tensor, int]:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self.epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self.epoch, self.order = epoch, rng.permutation(len(self.rows))
        size = self.config.batch_size
        indices = self.order[position * size : (position + 1) * size]
        rng = np.random.default_rng([self.seed, epoch, position])
        inputs = self.rows.batch(indices, rng, self.config.dropout, self.config.augment)
        return self.loss(network(inputs, len(indices)), indices), len(indices)


def _make_optimizers(
    network: MultimodalNetwork, config: TrainingConfig
) -> list[torch.optim.Optimizer]:
    """AdamW for dense gradients, with weight decay on linear maps and convolutions only, and
    Adagrad for the sparse gradients of word embeddings, so that rare words take larger steps."""
    words = [module.embedding for module in network.modules() if isinstance(module, Words)]
    maps = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    seen = {id(p) for p in [*words, *maps]}
    rest = [p for p in network.parameters() if id(p) not in seen]
    groups = [
        {"params": maps, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    ]
    if words:
        optimizers.append(torch.optim.Adagrad(words, lr=config.embedding_learning_rate))
    return optimizers
