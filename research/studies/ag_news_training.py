"""Trains the source's language models, kept on disk epoch by epoch, and times their steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperagg._common.checkpoint import read_checkpoint, write_checkpoint
from hyperagg._common.progress import progress_bar
from research.models.original_language_model import MixerName, SourceLanguageModel

__all__ = ["step_seconds", "train"]

# The source names no batch; Keras's own is 32.
BATCH, RATE, CLIP = 32, 1e-3, 1.0
TIMED_ROUNDS = 7


def train(
    model: SourceLanguageModel,
    name: str,
    ids: np.ndarray,
    epochs: int,
    checkpoint: Path,
    what: str,
    progress: bool,
) -> dict[str, Any]:
    """Train to the last epoch, from where `checkpoint` stands if it is there; it stays there.

    Args:
        model: changed in place.
        name: for the bar.
        ids: (rows, N + 1) token ids; every place foretells the one after it.
        epochs: how many.
        checkpoint: the state after the newest whole epoch.
        what: of what study that is.
        progress: show a bar.

    Returns:
        parameters, seconds of an epoch (the median), and the mean loss of every epoch in nats.

    Raises:
        ValueError: the checkpoint is of another study.
    """
    optimizer = _adam(model)
    seconds, losses = _restore(model, optimizer, checkpoint, what)
    with progress_bar(name, progress) as update:
        for epoch in range(len(seconds), epochs):
            # All chance in an epoch is drawn from its number, so that a resumed run is the same.
            torch.manual_seed(epoch)
            started, total, done = time.perf_counter(), 0.0, 0
            for rows in torch.randperm(len(ids)).split(BATCH):
                loss = _step(model, optimizer, torch.from_numpy(ids[rows.numpy()]).long())
                total, done = total + len(rows) * loss, done + len(rows)
                speed = done * (ids.shape[1] - 1) / (time.perf_counter() - started)
                status = f"epoch {epoch + 1}/{epochs}  loss {total / done:.3f}  {speed:,.0f} tokens/s"
                update((epoch + done / len(ids)) / epochs, status)
            seconds.append(time.perf_counter() - started)
            losses.append(total / done)
            _keep(model, optimizer, checkpoint, what, seconds, losses)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds_per_epoch": float(np.median(seconds)),
        "loss": losses,
    }


def step_seconds(
    models: Mapping[MixerName, SourceLanguageModel], ids: np.ndarray
) -> dict[str, dict[str, float]]:
    """Median seconds of a training step on the rows `ids`, and of its part below the softmax.

    The models take turns, another one first in each round, so that what disturbs the machine
    disturbs all of them; a round before the first warms up.
    """
    batch = torch.from_numpy(ids).long()
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for name, model in models.items():
        optimizer = _adam(model)
        calls[name, "step"] = partial(_step, model, optimizer, batch)
        calls[name, "below_softmax"] = partial(_step_below_softmax, model, batch)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(-1, TIMED_ROUNDS):
        for key in _turned(list(calls), turn):
            started = time.perf_counter()
            calls[key]()
            if turn >= 0:
                seconds[key].append(time.perf_counter() - started)
    return {
        name: {part: float(np.median(seconds[name, part])) for part in ("step", "below_softmax")}
        for name in models
    }


def _turned(keys: Sequence[tuple[str, str]], turn: int) -> Sequence[tuple[str, str]]:
    first = turn % len(keys)
    return [*keys[first:], *keys[:first]]


def _adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=RATE, eps=1e-7)  # Keras's epsilon


def _step(model: SourceLanguageModel, optimizer: torch.optim.Adam, ids: Tensor) -> float:
    optimizer.zero_grad()
    loss = model.accumulate(ids[:, :-1], ids[:, 1:])
    nn.utils.clip_grad_value_(model.parameters(), CLIP)
    optimizer.step()
    return float(loss)


def _step_below_softmax(model: SourceLanguageModel, ids: Tensor) -> None:
    model(ids[:, :-1]).sum().backward()


def _keep(
    model: nn.Module,
    optimizer: torch.optim.Adam,
    path: Path,
    what: str,
    seconds: Sequence[float],
    losses: Sequence[float],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{name}": tensor for name, tensor in moments.items()}
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    write_checkpoint(path, arrays, {"run": what, "seconds": seconds, "losses": losses})


def _restore(
    model: nn.Module, optimizer: torch.optim.Adam, path: Path, what: str
) -> tuple[list[float], list[float]]:
    """The seconds and losses of the epochs that are done."""
    if not path.exists():
        return [], []
    arrays, record = read_checkpoint(path)
    if record["run"] != what:
        raise ValueError(f"{path}: of another study ({record['run']}); name another --out")
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        tensor = torch.from_numpy(array)
        kind, name = key.split(".", 1)
        if kind == "model":
            weights[name] = tensor
        else:
            i, moment = name.split(".")
            state.setdefault(int(i), {})[moment] = tensor
    model.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return record["seconds"], record["losses"]
