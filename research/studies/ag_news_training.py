"""Training of the language models of Ekin (2025), with a checkpoint per epoch, and step timing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from hyperagg._common.checkpoint import read_checkpoint, write_checkpoint
from research.benchmarks.interleaved import interleaved
from research.models.original_language_model import MixerName, OriginalLanguageModel

__all__ = ["step_seconds", "train"]

# Ekin (2025) does not state a batch size; the default of Keras is 32.
BATCH_SIZE, LEARNING_RATE, CLIP = 32, 1e-3, 1.0
TIMED_ROUNDS = 7


def train(
    model: OriginalLanguageModel,
    name: str,
    ids: np.ndarray,
    epochs: int,
    checkpoint: Path,
    what: str,
    progress: bool,
) -> dict[str, Any]:
    """Train to the last epoch, starting from `checkpoint` if it exists; the file remains.

    Args:
        model: changed in place.
        name: label of the progress bar.
        ids: (rows, N + 1) token ids; every position predicts the next one.
        epochs: number of epochs.
        checkpoint: file of the state after the newest whole epoch.
        what: description of the study, compared with that of the checkpoint.
        progress: show a bar per epoch.

    Returns:
        parameters, median seconds per epoch, and the mean loss of every epoch in nats.

    Raises:
        ValueError: the checkpoint belongs to another study.
    """
    optimizer = _adam(model)
    seconds, losses = _restore(model, optimizer, checkpoint, what)
    for epoch in range(len(seconds), epochs):
        # All randomness of an epoch comes from its number, so that a resumed run is the same.
        torch.manual_seed(epoch)
        started, total = time.perf_counter(), 0.0
        batches = track(
            torch.randperm(len(ids)).split(BATCH_SIZE),
            f"{name}, epoch {epoch + 1}/{epochs}",
            console=Console(stderr=True),
            transient=True,
            disable=not progress,
        )
        for rows in batches:
            batch = torch.from_numpy(ids[rows.numpy()]).long()
            total += len(rows) * _step(model, optimizer, batch)
        seconds.append(time.perf_counter() - started)
        losses.append(total / len(ids))
        _save(model, optimizer, checkpoint, what, seconds, losses)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds_per_epoch": float(np.median(seconds)),
        "loss": losses,
    }


def step_seconds(
    models: Mapping[MixerName, OriginalLanguageModel], ids: np.ndarray
) -> dict[str, dict[str, float]]:
    """Measure the median seconds per training step on `ids`, and of its part below the softmax.

    The calls are interleaved, so that what disturbs the machine disturbs all models.
    """
    batch = torch.from_numpy(ids).long()
    calls: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        calls[f"{name}|step"] = partial(_step, model, _adam(model), batch)
        calls[f"{name}|below_softmax"] = partial(_step_below_softmax, model, batch)
    seconds = interleaved(calls, budget=0, rounds=TIMED_ROUNDS)
    return {
        name: {part: seconds[f"{name}|{part}"] for part in ("step", "below_softmax")}
        for name in models
    }


def _adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-7)  # Keras's epsilon


def _step(model: OriginalLanguageModel, optimizer: torch.optim.Adam, ids: Tensor) -> float:
    optimizer.zero_grad()
    loss = model.accumulate(ids[:, :-1], ids[:, 1:])
    nn.utils.clip_grad_value_(model.parameters(), CLIP)
    optimizer.step()
    return float(loss)


def _step_below_softmax(model: OriginalLanguageModel, ids: Tensor) -> None:
    model(ids[:, :-1]).sum().backward()


def _save(
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
    """Load a checkpoint and return the seconds and losses of its epochs."""
    if not path.exists():
        return [], []
    arrays, record = read_checkpoint(path)
    if record["run"] != what:
        raise ValueError(f"{path}: belongs to another study ({record['run']}); use another --out")
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
