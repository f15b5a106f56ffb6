"""The training loop: AdamW, Adagrad on the embeddings of words, and a state to go on from.

Whatever is random in a step is drawn from (seed, epoch, step), so a run that was stopped goes on
from its last state to the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperagg._common.checkpoint import read_checkpoint, write_checkpoint
from hyperagg.multimodal.batches import Rows
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.modalities.tabular import Words

__all__ = ["History", "Progress", "TrainingConfig", "predict", "train"]

SECONDS_BETWEEN_CHECKPOINTS = 20.0
_WARM_UP = 0.05


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained: a short warm-up, then a cosine down to zero.

    Args:
        epochs: passes over the rows.
        learning_rate: the highest one of AdamW.
        embedding_learning_rate: the highest one of Adagrad, for the embeddings of words.
        batch_size: rows per step.
        weight_decay: of the weights of linear maps.
        dropout: fraction of the modalities that a step leaves out; every row keeps one.
        augment: whether images and audio are varied at random.
    """

    epochs: int
    learning_rate: float
    embedding_learning_rate: float
    batch_size: int
    weight_decay: float
    dropout: float
    augment: bool


@dataclass(frozen=True)
class Progress:
    """The state of a training run after a step.

    Attributes:
        epoch: the current epoch, counted from 0.
        epochs: the number of epochs of the run.
        fraction: the completed fraction of the run, from 0 to 1.
        loss: the training loss, a running mean over the last steps.
        validation_score: of the last completed epoch; None before, and without validation rows.
    """

    epoch: int
    epochs: int
    fraction: float
    loss: float
    validation_score: float | None = None


@dataclass
class History:
    """What was seen on the way, one entry an epoch; `best_epoch` counts from 0.

    `score` is of the held-out rows: accuracy, or R2.
    """

    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best_epoch: int = -1


def train(
    network: MultimodalNetwork,
    rows: Rows,
    loss: Callable[[Tensor, np.ndarray], Tensor],
    config: TrainingConfig,
    *,
    seed: int,
    score: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    fingerprint: str = "",
    report: Callable[[Progress], None] | None = None,
) -> History:
    """Train in place; in the end the network has the weights of the best epoch.

    Args:
        network: what is trained.
        rows: to learn from.
        loss: the mean loss of logits (B, C) of the rows of these numbers (B,).
        config: how.
        seed: of the order of rows, of dropout and of variation.
        score: of the held-out rows, after each epoch; None: the last epoch is the best.
        checkpoint: where a state to go on from is written, every 20 seconds.
        resume: go on from it if it is there.
        fingerprint: identifies the data; a checkpoint with another one is refused.
        report: called after every step.

    Raises:
        ValueError: the loss is no longer finite, or the checkpoint is of another run.
    """
    run = _Run(network, rows, loss, config, seed, checkpoint, fingerprint)
    if resume and checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    begun, before = time.perf_counter(), run.history.seconds
    network.train()
    while run.step < run.steps:
        run.learn()
        run.history.seconds = before + time.perf_counter() - begun
        if run.step % run.steps_an_epoch == 0:
            run.close_epoch(score)
        run.save_now_and_then()
        if report is not None:
            report(run.progress())
    if run.best is not None:
        network.load_state_dict(run.best)
    network.eval()
    return run.history


def predict(network: MultimodalNetwork, rows: Rows, batch_size: int = 256) -> np.ndarray:
    """(rows, C) logits."""
    training = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(rows), batch_size):
            numbers = np.arange(begin, min(begin + batch_size, len(rows)))
            parts.append(network(rows.batch(numbers), len(numbers)).numpy())
    network.train(training)
    return np.concatenate(parts)


class _Run:
    """A run between two steps."""

    def __init__(
        self,
        network: MultimodalNetwork,
        rows: Rows,
        loss: Callable[[Tensor, np.ndarray], Tensor],
        config: TrainingConfig,
        seed: int,
        checkpoint: Path | None,
        fingerprint: str,
    ) -> None:
        self.network, self.rows, self.loss, self.config = network, rows, loss, config
        self.seed, self.checkpoint, self.fingerprint = seed, checkpoint, fingerprint
        self.steps_an_epoch = max(1, math.ceil(len(rows) / config.batch_size))
        self.steps = config.epochs * self.steps_an_epoch
        self.step, self.total, self.lately = 0, 0.0, math.nan
        self.order: np.ndarray | None = None  # of the rows in this epoch
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.optimizers = _optimizers(network, config)
        self.rates = [
            [group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers
        ]
        self.saved = time.monotonic()

    def learn(self) -> None:
        epoch, place = divmod(self.step, self.steps_an_epoch)
        if place == 0 or self.order is None:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        size = self.config.batch_size
        numbers = self.order[place * size : (place + 1) * size]
        rng = np.random.default_rng([self.seed, epoch, place])
        given = self.rows.batch(numbers, rng, self.config.dropout, self.config.augment)
        self._set_rates()
        loss = self.loss(self.network(given, len(numbers)), numbers)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        dense = self.optimizers[0].param_groups
        nn.utils.clip_grad_norm_([p for group in dense for p in group["params"]], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} after {self.step} steps: a learning_rate below "
                f"{self.config.learning_rate:g} would do"
            )
        self.lately = value if math.isnan(self.lately) else 0.98 * self.lately + 0.02 * value
        self.total += value * len(numbers)
        self.step += 1

    def close_epoch(self, score: Callable[[], float] | None) -> None:
        self.history.loss.append(self.total / len(self.rows))
        self.total, epoch = 0.0, len(self.history.loss) - 1
        if score is None:
            self.history.best_epoch = epoch
            return
        self.history.score.append(score())
        if self.history.score[-1] >= max(self.history.score):
            self.history.best_epoch = epoch
            state = self.network.state_dict()
            self.best = {name: value.clone() for name, value in state.items()}

    def save_now_and_then(self) -> None:
        if self.checkpoint is None or self.step == self.steps:
            return
        if time.monotonic() - self.saved > SECONDS_BETWEEN_CHECKPOINTS or self.step == 1:
            self.save(self.checkpoint)
            self.saved = time.monotonic()

    def progress(self) -> Progress:
        epoch, scores = (self.step - 1) // self.steps_an_epoch, self.history.score
        return Progress(
            min(epoch, self.config.epochs - 1),
            self.config.epochs,
            self.step / self.steps,
            self.lately,
            scores[-1] if scores else None,
        )

    def save(self, path: Path) -> None:
        tensors = {f"now.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (self.best or {}).items()}
        for i, optimizer in enumerate(self.optimizers):
            for k, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    tensors[f"optimizer.{i}.{k}.{name}"] = torch.as_tensor(value)
        record = {
            "run": self._what(),
            "step": self.step,
            "total": self.total,
            "lately": self.lately,
            "history": asdict(self.history),
        }
        write_checkpoint(path, {name: each.numpy() for name, each in tensors.items()}, record)

    def restore(self, path: Path) -> None:
        arrays, record = read_checkpoint(path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if record["run"] != self._what():
            raise ValueError(
                f"{path}: of other rows or other settings; give those, or start without resuming"
            )
        self.step, self.total, self.lately = record["step"], record["total"], record["lately"]
        self.history = History(**record["history"])
        self.network.load_state_dict(_under("now.", tensors))
        self.best = _under("best.", tensors) or None
        for i, optimizer in enumerate(self.optimizers):
            described = optimizer.state_dict()
            described["state"] = {}
            for name, value in _under(f"optimizer.{i}.", tensors).items():
                k, field_name = name.split(".", 1)
                described["state"].setdefault(int(k), {})[field_name] = value.clone()
            optimizer.load_state_dict(described)

    def _set_rates(self) -> None:
        warm = max(1, round(_WARM_UP * self.steps))
        share = min(1.0, (self.step + 1) / warm)
        fall = max(0.0, (self.step - warm) / max(1, self.steps - warm))
        factor = share * (1 + math.cos(math.pi * fall)) / 2
        for optimizer, rates in zip(self.optimizers, self.rates):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor

    def _what(self) -> dict[str, Any]:
        sizes = [list(p.shape) for p in self.network.parameters()]
        return {
            "config": asdict(self.config),
            "rows": len(self.rows),
            "seed": self.seed,
            "sizes": sizes,
            "fingerprint": self.fingerprint,
        }


def _optimizers(network: MultimodalNetwork, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW for what has dense gradients, with decay of linear maps alone; and for words Adagrad,
    whose steps for a rare one are as large as for a frequent one."""
    words = [module.embedding for module in network.modules() if isinstance(module, Words)]
    maps = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    apart = {id(p) for p in [*words, *maps]}
    rest = [p for p in network.parameters() if id(p) not in apart]
    groups = [
        {"params": maps, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    ]
    if words:
        # Said aloud, or Adagrad's first step warns that nobody said it.
        torch.sparse.check_sparse_tensor_invariants.disable()
        optimizers.append(torch.optim.Adagrad(words, lr=config.embedding_learning_rate))
    return optimizers


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
