"""A classifier of written digits whose features and answers judge generated ones."""

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

__all__ = ["DigitClassifier", "trained_digit_classifier"]

EPOCHS, BATCH, RATE = 5, 128, 3e-3


class DigitClassifier(nn.Module):
    """Three convolutions and a hidden layer of 128, whose outputs are the features."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            layers += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, pictures: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B 10"]:
        return self.head(self.body(pictures))

    @torch.no_grad()
    def judge(
        self, pictures: Float[np.ndarray, "N 28 28"]
    ) -> tuple[Float[np.ndarray, "N 128"], Int[np.ndarray, " N"]]:
        """Features and the most probable digit of pictures from 0 to 1."""
        features, answers = [], []
        for part in torch.from_numpy(pictures).float()[:, None].split(500):
            features.append(self.body(part))
            answers.append(self.head(features[-1]).argmax(1))
        return torch.cat(features).numpy(), torch.cat(answers).numpy()


def trained_digit_classifier(
    train: Images, path: Path, *, seed: int = 0, shown: bool = True
) -> DigitClassifier:
    """The judge in `path`, or one that is trained on `train` and then kept there."""
    torch.manual_seed(seed)
    judge = DigitClassifier()
    if path.exists():
        judge.load_state_dict(load_file(path))
        return judge.eval()
    pictures, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(judge.parameters(), RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 1))
    generator = torch.Generator().manual_seed(seed)
    batches = (
        rows
        for _ in range(EPOCHS)
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH)
        if len(rows) == BATCH
    )
    console = Console(stderr=True)
    for rows in track(batches, "judge", total=steps, console=console, disable=not shown):
        loss = F.cross_entropy(judge(pictures[rows][:, None] / 255), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    with atomic_write(path) as draft:
        save_file(judge.state_dict(), draft)
    return judge.eval()
