"""The training loop of the PyTorch products, on Accelerate. Requires PyTorch and accelerate."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn

from hyperagg._common.checkpoint import (
    check_same_run,
    check_space,
    read_checkpoint,
    write_checkpoint,
)
from hyperagg._common.interrupt import deferred_interrupt

__all__ = ["TorchTrainer", "TrainingHistory", "isolated_accelerator", "warmup_cosine"]

CHECKPOINT_SECONDS = 20.0


@dataclass
class TrainingHistory:
    """What a run measured.

    Attributes:
        loss: mean training loss per row of each epoch.
        score: validation score of each epoch, higher is better; empty without validation.
        criterion: what has decided on the best epoch, of each epoch, higher is better; the score
            unless `validate` returns it beside the score.
        best_epoch: index of the epoch whose weights the model has in the end, from 0.
        seconds: wall-clock time of training, over all calls of a run that was resumed.
    """

    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    criterion: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


class TorchTrainer:
    """Trains a module in place, step by step, on the device where it is.

    A run is a function of its arguments: everything random in a step has to come from the seed of
    the caller and the index of the step. A run that was stopped therefore resumes to the same
    weights, bit by bit.

    Args:
        model: the module, with parameters in float32 or float64.
        optimizers: optimizers of its parameters, at their highest learning rates.
        loss: maps the module, the index of the step and the slice of the batch that this process
            computes (everything in a single process) to the mean loss, a scalar, and the number of
            rows in the whole batch.
        accelerator: the one that `isolated_accelerator` yields.
        steps: total number of steps.
        steps_per_epoch: number of steps after which the mean loss is logged and `validate` runs.
        schedule: maps the index of a step to the factor of all learning rates.
        clip: parameters whose gradients are clipped together to a norm of 1; not sparse ones.
        identity: JSON values by name that define the run: its data, arguments and seed. A
            checkpoint of another identity is refused, with the names of what differs.
        ema_decay: decay of a running mean of the parameters, which replaces them in the end. None
            keeps the parameters.
        bf16: whether the loss is computed under autocast to bfloat16; parameters keep their type.
        validate: returns the score of the model after an epoch, higher is better, or a pair: the
            score, and what decides in its place. The model gets the weights of the best epoch (the
            later of equals) in the end. None: the last ones.
        patience: number of epochs after the best one, without a better one, after which the run
            ends before its last step. None: all steps.
        checkpoint: file for the state of the run. It is left there; the caller removes it once the
            model is saved.
        checkpoint_steps: number of steps between two checkpoints; None: 20 seconds.
        callbacks: functions of the trainer, called after every step. An exception stops the run.

    Numerics: autocast and the model decide; the running mean and the optimizers are in the type of
        the parameters. Cost: a checkpoint holds the parameters, the running mean, the best weights
        and the state of the optimizers.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        loss: Callable[[nn.Module, int, slice], tuple[Tensor, int]],
        accelerator: Accelerator,
        *,
        steps: int,
        steps_per_epoch: int,
        schedule: Callable[[int], float],
        clip: Iterable[nn.Parameter],
        identity: Mapping[str, Any],
        ema_decay: float | None = None,
        bf16: bool = False,
        validate: Callable[[], float | tuple[float, float]] | None = None,
        patience: int | None = None,
        checkpoint: Path | None = None,
        checkpoint_steps: int | None = None,
        callbacks: Sequence[Callable[[TorchTrainer], None]] = (),
    ) -> None:
        if any(p.dtype not in (torch.float32, torch.float64) for p in model.parameters()):
            raise ValueError("model: expected parameters in float32 or float64")
        if ema_decay is not None and validate is not None:
            raise ValueError("ema_decay, validate: expected at most one of them")
        if checkpoint is not None:
            # The parameters, the state of an optimizer, and the model.
            check_space(checkpoint, 3 * sum(p.nbytes for p in model.parameters()))
        self.model, self.loss, self.accelerator = model, loss, accelerator
        self.steps, self.steps_per_epoch, self.schedule = steps, steps_per_epoch, schedule
        self.clip, self.identity = list(clip), dict(identity)
        self.ema_decay, self.bf16 = ema_decay, bf16
        self.validate, self.patience = validate, patience
        self.checkpoint, self.checkpoint_steps = checkpoint, checkpoint_steps
        self.callbacks = callbacks
        self.device = next(model.parameters()).device
        self.step, self.recent_loss = 0, math.nan
        self.history = TrainingHistory()
        self._epoch_loss, self._epoch_rows = 0.0, 0
        self._ema: list[Tensor] = []
        if ema_decay is not None:
            self._ema = [p.detach().clone() for p in model.parameters()]
        self._best: dict[str, Tensor] = {}
        self._wrapped = accelerator.prepare_model(model)
        self._optimizers = [accelerator.prepare_optimizer(each) for each in optimizers]
        self._max_lr = [[group["lr"] for group in each.param_groups] for each in optimizers]
        self._saved = time.monotonic()

    @property
    def epoch(self) -> int:
        """Index of the epoch that the last step belongs to, from 0."""
        return max(0, self.step - 1) // self.steps_per_epoch

    def run(self, resume: bool = False) -> TrainingHistory:
        """Train from the beginning, or from the checkpoint if there is one and `resume` is set.

        Returns:
            the history of the whole run.

        Raises:
            ValueError: the loss is not finite, or the checkpoint belongs to another run.
            KeyboardInterrupt: after Ctrl-C, once the step has ended and a checkpoint is written. A
                second Ctrl-C interrupts at once.
        """
        if resume and self.checkpoint is not None and self.checkpoint.exists():
            self._restore(self.checkpoint)
        self.model.train()
        before, started = self.history.seconds, time.perf_counter()
        try:
            # Explicitly off, or the first sparse gradient warns that the checks are off.
            checks = torch.sparse.check_sparse_tensor_invariants(enable=False)
            with deferred_interrupt() as interrupted, checks:
                while not self._is_finished():
                    self._train_step()
                    self.history.seconds = before + time.perf_counter() - started
                    for callback in self.callbacks:
                        callback(self)
                    if interrupted.is_set():
                        # A signal may reach the processes of a run in different steps.
                        self.accelerator.set_trigger()
                    stop = self.accelerator.check_trigger()
                    if stop or self._checkpoint_is_due():
                        self._save()
                    if stop:
                        interrupted.raise_()
                        raise KeyboardInterrupt  # the signal has reached another process
            self._use_final_weights()
        finally:
            # Accelerate marks a module that it has prepared, and would not prepare it again.
            self.model.__dict__.pop("_is_accelerate_prepared", None)
            self.model.eval()
        return self.history

    def _is_finished(self) -> bool:
        # By the history alone, so that a run that was resumed stops where it would have.
        without_gain = len(self.history.score) - 1 - self.history.best_epoch
        has_stopped = self.patience is not None and without_gain >= self.patience
        return has_stopped or self.step >= self.steps

    def _train_step(self) -> None:
        accelerator = self.accelerator
        part = slice(accelerator.process_index, None, accelerator.num_processes)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss, rows = self.loss(self._wrapped, self.step, part)
        value = float(accelerator.reduce(loss.detach(), "mean"))
        factor = self.schedule(self.step)
        if not math.isfinite(value):
            lr = self._max_lr[0][0]
            raise ValueError(
                f"learning_rate={lr:g}: the loss is {value} after {self.step} steps; "
                "give a smaller learning rate"
            )
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.clip, 1.0)
        for optimizer, max_lr in zip(self._optimizers, self._max_lr):
            for group, lr in zip(optimizer.param_groups, max_lr):
                group["lr"] = lr * factor
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self._update_ema()
        smoothed = 0.98 * self.recent_loss + 0.02 * value
        self.recent_loss = value if math.isnan(self.recent_loss) else smoothed
        self._epoch_loss, self._epoch_rows = (
            self._epoch_loss + rows * value,
            self._epoch_rows + rows,
        )
        if self.step % self.steps_per_epoch == 0 or self.step == self.steps:
            self._end_epoch()

    def _end_epoch(self) -> None:
        self.history.loss.append(self._epoch_loss / self._epoch_rows)
        self._epoch_loss, self._epoch_rows = 0.0, 0
        if self.validate is None:
            self.history.best_epoch = self.epoch
            return
        found = self.validate()
        score, criterion = found if isinstance(found, tuple) else (found, found)
        self.history.score.append(score)
        self.history.criterion.append(criterion)
        if criterion >= max(self.history.criterion):
            self.history.best_epoch = self.epoch
            self._best = {k: v.clone() for k, v in self.model.state_dict().items()}

    @torch.no_grad()
    def _update_ema(self) -> None:
        if self.ema_decay is None:
            return
        # In the first steps the mean should forget the initial parameters quickly.
        decay = min(self.ema_decay, self.step / (9 + self.step))
        for mean, parameter in zip(self._ema, self.model.parameters()):
            mean.lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def _use_final_weights(self) -> None:
        if self._best:
            self.model.load_state_dict(self._best)
        for mean, parameter in zip(self._ema, self.model.parameters()):
            parameter.copy_(mean)

    def _checkpoint_is_due(self) -> bool:
        if self._is_finished():
            return False
        if self.checkpoint_steps is not None:
            return self.step % self.checkpoint_steps == 0
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def _save(self) -> None:
        if self.checkpoint is None or not self.accelerator.is_main_process:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        tensors |= {f"ema.{i}": value for i, value in enumerate(self._ema)}
        for i, optimizer in enumerate(self._optimizers):
            for k, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    tensors[f"optimizer.{i}.{k}.{name}"] = torch.as_tensor(value)
        record = {
            "run": self.identity,
            "step": self.step,
            "epoch_loss": self._epoch_loss,
            "epoch_rows": self._epoch_rows,
            "recent_loss": self.recent_loss,
            "history": asdict(self.history),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        write_checkpoint(self.checkpoint, arrays, record)
        self._saved = time.monotonic()

    def _restore(self, path: Path) -> None:
        arrays, record = read_checkpoint(path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        check_same_run(path, record["run"], self.identity)
        self.step = record["step"]
        self._epoch_loss, self._epoch_rows = record["epoch_loss"], record["epoch_rows"]
        self.recent_loss, self.history = record["recent_loss"], TrainingHistory(**record["history"])
        self.model.load_state_dict(_with_prefix("model.", tensors))
        self._best = _with_prefix("best.", tensors)
        for i, mean in enumerate(self._ema):
            mean.copy_(tensors[f"ema.{i}"])
        for i, optimizer in enumerate(self._optimizers):
            whole = optimizer.state_dict()
            whole["state"] = {}
            for name, value in _with_prefix(f"optimizer.{i}.", tensors).items():
                k, key = name.split(".", 1)
                whole["state"].setdefault(int(k), {})[key] = value
            optimizer.load_state_dict(whole)


def warmup_cosine(steps: int, warmup_steps: int) -> Callable[[int], float]:
    """Return the schedule that rises linearly to 1 and falls to 0 along a cosine.

    Args:
        steps: total number of steps.
        warmup_steps: number of them in which the factor rises; at least one.

    >>> schedule = warmup_cosine(steps=10, warmup_steps=2)
    >>> schedule(0), schedule(1), schedule(6)
    (0.5, 1.0, 0.5)
    """
    warmup_steps = max(1, warmup_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        return (1 + math.cos(math.pi * done)) / 2

    return factor


_SINGLETONS = (PartialState, AcceleratorState, GradientState)
_lock = threading.Lock()
_outer_states: list[dict[str, Any]] = []  # of the process, while a run is in progress
_num_runs = 0


@contextmanager
def isolated_accelerator() -> Iterator[Accelerator]:
    """Yield an Accelerator that neither sees nor changes the process-wide state of Accelerate.

    Accelerate keeps the settings of the first Accelerator in singletons and refuses others until
    the process ends. Here they are put aside for the block and put back after it, so that runs with
    different settings, or before and after a Trainer of transformers, do not disturb each other.
    Runs in several threads share one state. Mixed precision is left to `TorchTrainer`.
    """
    global _num_runs
    with _lock:
        if _num_runs == 0:
            _outer_states[:] = [dict(each._shared_state) for each in _SINGLETONS]
            # PartialState stays: the device and the process group are those of the process.
            AcceleratorState._shared_state.clear()
            GradientState._shared_state.clear()
        _num_runs += 1
    try:
        with _lock:  # the constructor fills the shared state in several steps
            accelerator = Accelerator(mixed_precision="no", device_placement=False)
        yield accelerator
    finally:
        with _lock:
            _num_runs -= 1
            if _num_runs == 0:
                for each, state in zip(_SINGLETONS, _outer_states):
                    each._shared_state.clear()
                    each._shared_state.update(state)


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
