"""Training a denoiser: it learns, stopped and resumed it is the same, and it leaves a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperagg.data.datasets.digits import load_mnist
from hyperagg.diffusion import trainer as diffusion
from hyperagg.diffusion.model import Denoiser
from hyperagg.diffusion.pipeline import load_pipeline
from hyperagg.diffusion.trainer import Recipe, checkpoint_of, train_denoiser


@pytest.fixture(scope="module")
def digits():
    return load_mnist().train


def model():
    torch.manual_seed(0)
    return Denoiser(patch_size=7, d_model=32, num_layers=2, num_heads=2)


def train(digits, out, steps, denoiser=None, **options):
    recipe = Recipe(steps=steps, batch_size=32, save_steps=10, learning_rate=3e-3, ema=0.9)
    return train_denoiser(
        denoiser or model(), digits.images, digits.labels, out, recipe, shown=False, **options
    )


def test_it_learns(digits, tmp_path):
    trained = train(digits, tmp_path, 100)
    assert [step for step, _ in trained.loss] == [50, 100]
    # Predicting nothing has 0.96, the mean square of v.
    assert trained.loss[-1][1] < min(0.95 * trained.loss[0][1], 0.68)
    assert not checkpoint_of(tmp_path).exists()
    loaded = load_pipeline(tmp_path)
    for own, kept in zip(
        trained.pipeline.denoiser.parameters(), loaded.denoiser.parameters(), strict=True
    ):
        assert torch.equal(own, kept)


def test_stopped_and_resumed_it_is_the_same(digits, tmp_path, monkeypatch):
    whole = train(digits, tmp_path / "whole", 60)

    class Stopped(diffusion.DenoiserRun):
        def advance(self):
            if self.step == 37:
                raise KeyboardInterrupt
            super().advance()

    with monkeypatch.context() as patch:
        patch.setattr(diffusion, "DenoiserRun", Stopped)
        with pytest.raises(KeyboardInterrupt):
            train(digits, tmp_path / "parts", 60)
    assert checkpoint_of(tmp_path / "parts").exists()
    resumed = train(digits, tmp_path / "parts", 60, resume=True)
    assert resumed.loss == whole.loss
    for a, b in zip(
        whole.pipeline.denoiser.parameters(), resumed.pipeline.denoiser.parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_a_state_of_another_training_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "remove_checkpoint", lambda path: None)
    train(digits, tmp_path, 10)
    with pytest.raises(ValueError, match="comes of another model, data or recipe"):
        train(digits, tmp_path, 11, resume=True)
    checkpoint_of(tmp_path).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a checkpoint of hyperagg"):
        train(digits, tmp_path, 10, resume=True)


def test_classes_are_left_out_now_and_then(digits, tmp_path):
    seen = []

    class Watching(Denoiser):
        def forward(self, sample, timestep, class_labels=None):
            seen.append(class_labels)
            return super().forward(sample, timestep, class_labels)

    torch.manual_seed(0)
    watching = Watching(patch_size=14, d_model=8, num_layers=1, num_heads=1)
    train(digits, tmp_path, 40, watching)
    labels = torch.cat(seen)
    assert 0.05 < (labels == 10).float().mean() < 0.15
    assert set(labels.unique().tolist()) == set(range(11))


def test_colours_and_a_rate_that_is_none(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(12) % 2
    denoiser = Denoiser(sample_size=8, in_channels=3, num_classes=2, d_model=8, num_layers=1)
    trained = train_denoiser(
        denoiser, images, labels, tmp_path, Recipe(steps=2), names=["x", "y"], shown=False
    )
    assert trained.pipeline.labels == {"x": 0, "y": 1}
    with pytest.raises(ValueError, match="learning_rate=0: give a number above 0"):
        train_denoiser(denoiser, images, labels, tmp_path, Recipe(learning_rate=0))
