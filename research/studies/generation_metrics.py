"""Metrics of generated digits, and the loss of a denoiser on real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

from hyperagg.data.datasets.digits import Images
from hyperagg.diffusion import Denoiser
from hyperagg.diffusion.pipeline import make_scheduler
from research.analysis.generated import frechet_distance
from research.studies.digit_classifier import DigitClassifier

__all__ = ["GenerationMetrics", "scale"]

CLASSES = 10
# Rows of the loss: at a time, and in total.
CHUNK, MAX_ROWS = 100, 2000


class GenerationMetrics:
    """Compare generated digits with real ones that no denoiser was trained on.

    Args:
        classifier: provides features and labels.
        digits: real digits.
    """

    def __init__(self, classifier: DigitClassifier, digits: Images) -> None:
        self.classifier, self.labels = classifier, digits.labels
        self.images = scale(digits.images)
        self.features, self.predicted = classifier.classify(self.images)

    def evaluate(self, generated: dict[str, np.ndarray]) -> dict[str, Any]:
        """Compute the Fréchet distance, and how often the classifier sees the requested digit."""
        features, predicted = self.classifier.classify(scale(generated["images"]))
        correct = predicted == generated["labels"]
        return {
            "frechet": frechet_distance(features, self.features),
            "class_accuracy": float(correct.mean()),
            "accuracy_per_class": [
                float(correct[generated["labels"] == i].mean()) for i in range(CLASSES)
            ],
        }

    @torch.no_grad()
    def loss(self, denoiser: Denoiser) -> float:
        """Compute the loss given the class, with the same times and noise for every denoiser."""
        generator = torch.Generator().manual_seed(0)
        scheduler = make_scheduler(DDPMScheduler)
        rows = min(MAX_ROWS, len(self.labels))
        images = 2 * torch.from_numpy(self.images[:rows])[:, None] - 1
        labels = torch.from_numpy(self.labels[:rows])
        times = torch.arange(rows) * scheduler.config.num_train_timesteps // rows
        noise = torch.randn(images.shape, generator=generator)
        target = scheduler.get_velocity(images, noise, times)
        noisy = scheduler.add_noise(images, noise, times)
        total = 0.0
        for part in torch.arange(rows).split(CHUNK):
            predicted = denoiser(noisy[part], times[part], labels[part])
            total += float(F.mse_loss(predicted, target[part], reduction="sum"))
        return total / target.numel()


def scale(images: np.ndarray) -> np.ndarray:
    """Map bytes to values from 0 to 1."""
    return images / np.float32(255)
