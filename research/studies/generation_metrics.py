"""How near drawn digits are to real ones, and how well a denoiser predicts these."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

from hyperagg.data.datasets.digits import Images
from hyperagg.diffusion.model import Denoiser
from hyperagg.diffusion.pipeline import make_scheduler
from research.analysis.generated import frechet_distance
from research.studies.digit_classifier import DigitClassifier

__all__ = ["GenerationMetrics", "scaled"]

CLASSES = 10
CHUNK, MAX_ROWS = 100, 2000  # pictures that the loss is taken of at a time, and in all


class GenerationMetrics:
    """Real digits that no denoiser has learned from, and what is drawn beside them."""

    def __init__(self, judge: DigitClassifier, digits: Images) -> None:
        self.judge, self.labels = judge, digits.labels
        self.pictures = scaled(digits.images)
        self.features, self.answers = judge.judge(self.pictures)

    def measured(self, drawn: dict[str, np.ndarray]) -> dict[str, Any]:
        features, answers = self.judge.judge(scaled(drawn["pictures"]))
        right = answers == drawn["labels"]
        return {
            "frechet": frechet_distance(features, self.features),
            "class_accuracy": float(right.mean()),
            "accuracy_of_each": [float(right[drawn["labels"] == i].mean()) for i in range(CLASSES)],
        }

    @torch.no_grad()
    def loss(self, denoiser: Denoiser) -> float:
        """Of the prediction, with classes, the same times and noise for all."""
        generator = torch.Generator().manual_seed(0)
        scheduler = make_scheduler(DDPMScheduler)
        rows = min(MAX_ROWS, len(self.labels))
        pictures = 2 * torch.from_numpy(self.pictures[:rows])[:, None] - 1
        labels = torch.from_numpy(self.labels[:rows])
        times = torch.arange(rows) * scheduler.config.num_train_timesteps // rows
        noise = torch.randn(pictures.shape, generator=generator)
        wanted = scheduler.get_velocity(pictures, noise, times)
        noisy = scheduler.add_noise(pictures, noise, times)
        total = 0.0
        for part in torch.arange(rows).split(CHUNK):
            found = denoiser(noisy[part], times[part], labels[part])
            total += float(F.mse_loss(found, wanted[part], reduction="sum"))
        return total / wanted.numel()


def scaled(images: np.ndarray) -> np.ndarray:
    """From bytes to 0 ... 1."""
    return images / np.float32(255)
