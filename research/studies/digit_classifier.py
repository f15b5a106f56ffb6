"""A classifier of handwritten digits whose features and labels evaluate generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hyperagg._common.atomic import atomic_write
from hyperagg.data.datasets.digits import Images

__all__ = ["DigitClassifier", "load_or_train_digit_classifier"]

EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 128, 3e-3


class DigitClassifier(nn.Module):
    """Three convolutions and a hidden layer of 128 units, whose outputs are the features."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, images: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B 10"]:
        return self.head(self.body(images))

    @torch.no_grad()
    def classify(
        self, images: Float[np.ndarray, "N 28 28"]
    ) -> tuple[Float[np.ndarray, "N 128"], Int[np.ndarray, " N"]]:
        """Compute the features and the most probable digit of images with values from 0 to 1."""
        features, labels = [], []
        for part in torch.from_numpy(images).float()[:, None].split(500):
            features.append(self.body(part))
            labels.append(self.head(features[-1]).argmax(1))
        return torch.cat(features).numpy(), torch.cat(labels).numpy()


def load_or_train_digit_classifier(
    train: Images, path: Path, *, seed: int = 0, progress: bool = True
) -> DigitClassifier:
    """Load the classifier in `path`, or train one on `train` and save it there."""
    torch.manual_seed(seed)
    classifier = DigitClassifier()
    if path.exists():
        classifier.load_state_dict(load_file(path))
        return classifier.eval()
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    steps = EPOCHS * (len(labels) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=max(steps, 1)
    )
    generator = torch.Generator().manual_seed(seed)
    batches = (
        rows
        for _ in range(EPOCHS)
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH_SIZE)
        if len(rows) == BATCH_SIZE
    )
    console = Console(stderr=True)
    for rows in track(
        batches, "digit classifier", total=steps, console=console, disable=not progress
    ):
        loss = F.cross_entropy(classifier(images[rows][:, None] / 255), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with atomic_write(path) as draft:
        save_file(classifier.state_dict(), draft)
    return classifier.eval()
