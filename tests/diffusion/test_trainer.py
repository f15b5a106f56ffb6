"""Training a denoiser: it learns, resumes to the same weights, and saves a pipeline."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from hyperagg._common.torch_random import seeded
from hyperagg.data.datasets.digits import load_mnist
from hyperagg.diffusion import Denoiser, TrainingConfig, load_pipeline, train_denoiser
from hyperagg.diffusion.trainer import checkpoint_path, write_metadata


@pytest.fixture(scope="module")
def digits():
    return load_mnist().train


def make_denoiser():
    torch.manual_seed(0)
    return Denoiser(patch_size=7, d_model=32, num_layers=2, num_heads=2)


def train(digits, out, steps, denoiser=None, bf16=False, **options):
    config = TrainingConfig(
        steps=steps, batch_size=32, save_steps=10, learning_rate=3e-3, ema_decay=0.9, bf16=bf16
    )
    denoiser = denoiser or make_denoiser()
    return train_denoiser(
        denoiser, digits.images, digits.labels, out, config, progress=False, **options
    )


def test_the_loss_falls_and_the_pipeline_is_saved(digits, tmp_path):
    result = train(digits, tmp_path, 100)
    assert [step for step, _ in result.loss] == [50, 100]
    # The mean square of v, the loss of predicting zero, is 0.96.
    assert result.loss[-1][1] < min(0.95 * result.loss[0][1], 0.68)
    assert checkpoint_path(tmp_path).exists()  # until all files of the model are written
    loaded = load_pipeline(tmp_path)
    for trained, saved in zip(
        result.pipeline.denoiser.parameters(), loaded.denoiser.parameters(), strict=True
    ):
        assert torch.equal(trained, saved)


def test_an_interrupted_run_resumes_to_the_same_weights(digits, tmp_path):
    whole = train(digits, tmp_path / "whole", 60)

    def interrupt(trainer):
        if trainer.step == 37:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(digits, tmp_path / "parts", 60, callbacks=[interrupt])
    assert checkpoint_path(tmp_path / "parts").exists()
    resumed = train(digits, tmp_path / "parts", 60, resume=True)
    assert resumed.loss == whole.loss
    for a, b in zip(
        whole.pipeline.denoiser.parameters(), resumed.pipeline.denoiser.parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_runs_with_and_without_bf16_work_in_one_process(digits, tmp_path):
    losses = [
        train(digits, tmp_path / str(i), 2, bf16=bf16).loss[-1][1]
        for i, bf16 in enumerate((False, True, False))
    ]
    assert losses[0] == losses[2] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_checkpoints_of_other_runs_are_refused(digits, tmp_path):
    def interrupt(trainer):
        if trainer.step == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(digits, tmp_path, 20, callbacks=[interrupt])
    with pytest.raises(ValueError, match="belongs to a run with other data or arguments"):
        train(digits, tmp_path, 21, resume=True)
    checkpoint_path(tmp_path).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors: not a checkpoint"):
        train(digits, tmp_path, 20, resume=True)


def test_a_tenth_of_the_labels_is_dropped(digits, tmp_path):
    seen = []

    class RecordingDenoiser(Denoiser):
        def forward(self, sample, timestep, class_labels=None):
            seen.append(class_labels)
            return super().forward(sample, timestep, class_labels)

    torch.manual_seed(0)
    denoiser = RecordingDenoiser(patch_size=14, d_model=8, num_layers=1, num_heads=1)
    train(digits, tmp_path, 40, denoiser)
    labels = torch.cat(seen)
    assert 0.05 < (labels == 10).float().mean() < 0.15
    assert set(labels.unique().tolist()) == set(range(11))


@pytest.fixture
def color():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    denoiser = Denoiser(sample_size=8, in_channels=3, num_classes=2, d_model=8, num_layers=1)
    return denoiser, images, np.arange(12) % 2


def test_color_images_class_names_and_metadata(color, tmp_path):
    config = TrainingConfig(steps=np.int64(2), learning_rate=np.float32(1e-3))
    result = train_denoiser(*color, tmp_path, config, class_names=["x", "y"], progress=False)
    assert result.pipeline.labels == {"x": 0, "y": 1}
    write_metadata(tmp_path, result, config, "noise")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["training_config"]["steps"] == 2 and results["loss"][-1][0] == 2
    card = (tmp_path / "README.md").read_text()
    assert 'library_name: "diffusers"' in card and "- classes: 2\n" in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(images=np.zeros((12, 8, 8), np.uint8)), r"images: uint8 of shape \(12, 8, 8, 1\)"),
        (dict(images=np.zeros((12, 8, 8, 3))), r"images: float64 .* expected uint8 of shape"),
        (dict(labels=np.arange(11)), r"labels: int64 of shape \(11,\); expected integers"),
        (dict(labels=np.arange(12)), "labels: 0 to 11; expected 0 to 1"),
        (dict(class_names=["x"]), "class_names: 1; expected 2"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(color, tmp_path, change, message):
    denoiser, images, labels = color
    arguments = dict(images=images, labels=labels, class_names=None) | change
    with pytest.raises(ValueError, match=message):
        train_denoiser(denoiser, out=tmp_path, progress=False, **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(learning_rate=0), "learning_rate=0: expected a finite number > 0"),
        (dict(learning_rate=float("nan")), "learning_rate=nan: expected a finite number > 0"),
        (dict(steps=0), "steps=0: expected an integer >= 1"),
        (dict(ema_decay=1), "ema_decay=1: expected a finite number >= 0 and < 1"),
        (dict(seed=2**32), "seed=4294967296: expected an integer from 0 to 4294967295"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_trainings_in_threads_give_the_weights_of_one_after_the_other(color, tmp_path):
    _, images, labels = color

    def fit(seed):
        with seeded(seed):
            denoiser = Denoiser(
                sample_size=8, in_channels=3, num_classes=2, d_model=8, num_layers=1
            )
        config = TrainingConfig(steps=5, batch_size=4, seed=seed)
        train_denoiser(denoiser, images, labels, tmp_path / str(seed), config, progress=False)
        return [parameter.tolist() for parameter in denoiser.parameters()]

    alone = [fit(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fit, range(3))) == alone


def test_other_images_are_not_resumed(color, tmp_path):
    """As many of the same shape as before: their number does not tell."""
    denoiser, images, labels = color
    config = TrainingConfig(steps=5, batch_size=4, save_steps=1)

    def stop(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_denoiser(denoiser, images, labels, tmp_path, config, callbacks=[stop], progress=False)
    for other, name in (((images[::-1], labels), "images"), ((images, labels[::-1]), "labels")):
        with pytest.raises(ValueError, match=f"other data or arguments: {name}; repeat"):
            train_denoiser(denoiser, *other, tmp_path, config, resume=True, progress=False)
    train_denoiser(denoiser, images, labels, tmp_path, config, resume=True, progress=False)
