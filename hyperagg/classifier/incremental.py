"""Rows for new words and new classes in a trained classifier, and what it needs to learn on.

A trained row has taken large steps first and smaller ones since; the sum that its step size goes
by is kept, so that more texts move it a little and a new row much.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hyperagg.classifier.kernels.trainer import weights
from hyperagg.classifier.model import Classifier
from hyperagg.classifier.training.train_steps import FusedTrainStep
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.text import Ragged

__all__ = ["grown", "grown_memory", "memory_lengths", "memory_of"]


def memory_of(train_step: FusedTrainStep, rows: Ragged) -> dict[str, Tensor]:
    """What is kept of a training: states and rates of rows, and how often each token was used."""
    uses = np.bincount(rows.token_ids, minlength=len(train_step.rates))
    kept = {f"state.{name}": state.clone() for name, state in train_step.optimizer_state().items()}
    return {**kept, "rates": torch.from_numpy(train_step.rates), "uses": torch.from_numpy(uses)}


def memory_lengths(model: Classifier) -> dict[str, int]:
    """By name how long the tensors of a model's memory are."""
    if not isinstance(model.mixer, PooledAggregation):
        return {}
    lengths = {f"state.{name}": len(table) for name, table in weights(model).tables.items()}
    return {**lengths, "rates": len(model.embedding), "uses": len(model.embedding)}


def grown(model: Classifier, larger: Classifier) -> Classifier:
    """`larger` with the weights of `model` where both have them; a new class is as unlikely as the
    least likely of the old ones, whatever the text."""
    with torch.no_grad():
        larger.head.weight.zero_()
        larger.head.bias.fill_(float(model.head.bias.min()))
        for own, old in zip(larger.parameters(), model.parameters()):
            own[: len(old)] = old
    return larger


def grown_memory(
    memory: Mapping[str, Tensor], rates: np.ndarray, classes: int
) -> dict[str, Tensor]:
    """The memory with nothing learned yet in the new rows; `rates` (V,) is used for those alone."""
    lengths = {name: len(rates) for name in ("state.embedding", "uses")}
    lengths |= {"state.weight": classes, "state.bias": classes}
    larger = dict(memory)
    for name, length in lengths.items():
        old = memory[name]
        larger[name] = torch.cat([old, old.new_zeros(length - len(old))])
    known = len(memory["rates"])
    larger["rates"] = torch.cat([memory["rates"], torch.from_numpy(rates[known:])])
    return larger
