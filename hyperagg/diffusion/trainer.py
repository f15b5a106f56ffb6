"""Training of a denoiser, and the folder that it is saved in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from hyperagg._common.atomic import atomic_folder, atomic_write
from hyperagg._common.checkpoint import digest_arrays, remove_checkpoint
from hyperagg._common.model_card import model_card
from hyperagg._common.progress import progress_bar
from hyperagg._common.tensors import digest_texts
from hyperagg._common.torch_trainer import TorchTrainer, isolated_accelerator, warmup_cosine
from hyperagg._common.validation import check_bool, check_integer, check_real
from hyperagg.diffusion.model import Denoiser
from hyperagg.diffusion.pipeline import DenoiserPipeline, make_scheduler

__all__ = [
    "TrainingConfig",
    "TrainingResult",
    "checkpoint_path",
    "train_denoiser",
    "write_metadata",
]

LOG_STEPS = 50
WARMUP = 20  # one step in twenty


@dataclass(frozen=True)
class TrainingConfig:
    """How a denoiser is trained: AdamW with a short warm-up and a cosine schedule.

    Args:
        steps: number of optimizer steps.
        batch_size: images per step, over all processes.
        learning_rate: highest learning rate.
        ema_decay: decay of the running mean of the parameters, which is what is saved.
        label_dropout: fraction of images whose label is dropped, for classifier-free guidance.
        bf16: whether to compute under autocast to bfloat16; parameters stay in float32.
        save_steps: number of steps between two checkpoints.
        seed: seed of images, label dropout, timesteps and noise.

    Raises:
        TypeError: a value that is not a number, or `bf16` not a boolean.
        ValueError: a value that is out of range.
    """

    steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 8e-3
    ema_decay: float = 0.995
    label_dropout: float = 0.1
    bf16: bool = False
    save_steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        values: dict[str, int | float | bool] = {
            "steps": check_integer("steps", self.steps, 1),
            "batch_size": check_integer("batch_size", self.batch_size, 1),
            "learning_rate": check_real("learning_rate", self.learning_rate, 0, open_minimum=True),
            "ema_decay": check_real("ema_decay", self.ema_decay, 0, 1, open_maximum=True),
            "label_dropout": check_real("label_dropout", self.label_dropout, 0, 1),
            "bf16": check_bool("bf16", self.bf16),
            "save_steps": check_integer("save_steps", self.save_steps, 1),
            "seed": check_integer("seed", self.seed, 0, 2**32 - 1),
        }
        for name, value in values.items():  # NumPy numbers become Python's, which JSON can hold
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class TrainingResult:
    """The result of `train_denoiser`.

    Attributes:
        pipeline: the pipeline with the trained model, whose parameters are the running mean.
        steps: number of optimizer steps.
        seconds: wall-clock time of training, over all calls.
        loss: pairs (step, mean loss since the previous pair).
    """

    pipeline: DenoiserPipeline
    steps: int
    seconds: float
    loss: list[tuple[int, float]]


def checkpoint_path(out: Path) -> Path:
    """Return the file in `out` that holds the state of an interrupted run."""
    return out / "checkpoint.safetensors"


def train_denoiser(
    denoiser: Denoiser,
    images: np.ndarray,
    labels: np.ndarray,
    out: Path,
    config: TrainingConfig = TrainingConfig(),
    *,
    class_names: Sequence[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Sequence[Callable[[TorchTrainer], None]] = (),
) -> TrainingResult:
    """Train a denoiser in place and save it as a `DenoiserPipeline`.

    Everything random in a step is drawn from the seed and the index of the step, so a run that was
    stopped resumes to the same weights. Training uses the device that Accelerate selects, and all
    processes that `accelerate launch` starts.

    Args:
        denoiser: an untrained model. It is moved to the device.
        images: (N, height, width) or (N, height, width, channels) uint8.
        labels: (N,) class numbers from 0 to C - 1.
        out: folder for the pipeline, and for the checkpoint, which `write_metadata` removes.
        config: hyperparameters.
        class_names: C names, one for each class; None: their numbers.
        resume: whether to continue from the checkpoint in `out`, if there is one.
        progress: whether to show a progress bar; None: in a terminal or notebook.
        callbacks: functions that are called after every step with the trainer, whose attributes
            `step`, `steps`, `recent_loss` and `history` tell how far it is.

    Returns:
        the pipeline and the measurements of the run.

    Raises:
        ValueError: images or labels that do not fit the model, a batch that is not divisible by the
            number of processes, a loss that is not finite, or a checkpoint of another run.
        KeyboardInterrupt: after Ctrl-C, once the step has ended and a checkpoint is written.
        OSError: the disk is full. The folder is as it was, and the last checkpoint is complete.

    >>> import tempfile
    >>> images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    >>> denoiser = Denoiser(sample_size=8, num_classes=2, d_model=8, num_layers=1)
    >>> config = TrainingConfig(steps=2, batch_size=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = train_denoiser(denoiser, images, labels, Path(folder), config)
    >>> result.steps
    2
    """
    images = _check_data(denoiser, images, labels, class_names)
    for name in ("denoiser", "scheduler"):  # before hours of training and not after them
        if (out / name).exists() and not (out / name).is_dir():
            raise ValueError(f"{out / name}: is a file; expected a folder, or nothing")
    with isolated_accelerator() as accelerator:
        if config.batch_size % accelerator.num_processes:
            raise ValueError(
                f"batch_size={config.batch_size}: expected a multiple of the number of processes, "
                f"{accelerator.num_processes}"
            )
        denoiser.to(accelerator.device)
        optimizer = torch.optim.AdamW(
            denoiser.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        enabled = progress if accelerator.is_main_process else False
        with progress_bar("training", enabled) as update:

            def show(trainer: TorchTrainer) -> None:
                status = f"step {trainer.step}/{trainer.steps}  loss {trainer.recent_loss:.4f}"
                update(trainer.step / trainer.steps, status)

            history = TorchTrainer(
                denoiser,
                [optimizer],
                _Loss(denoiser, images, labels, config),
                accelerator,
                steps=config.steps,
                steps_per_epoch=LOG_STEPS,  # rows are drawn with replacement: there are no epochs
                schedule=warmup_cosine(config.steps, config.steps // WARMUP),
                clip=denoiser.parameters(),
                identity=_identity(denoiser, config, images, labels, class_names),
                ema_decay=config.ema_decay,
                bf16=config.bf16,
                checkpoint=checkpoint_path(out),
                checkpoint_steps=config.save_steps,
                callbacks=(show, *callbacks),
            ).run(resume)
        id2label = {str(i): name for i, name in enumerate(class_names or ())}
        pipeline = DenoiserPipeline(denoiser, make_scheduler(), id2label)
        if accelerator.is_main_process:
            with atomic_folder(out, last="model_index.json") as draft:
                pipeline.save_pretrained(draft)
    ends = (min((i + 1) * LOG_STEPS, config.steps) for i in range(len(history.loss)))
    return TrainingResult(pipeline, config.steps, history.seconds, list(zip(ends, history.loss)))


class _Loss:
    """The mean squared error of the prediction in one step."""

    def __init__(
        self, denoiser: Denoiser, images: np.ndarray, labels: np.ndarray, config: TrainingConfig
    ) -> None:
        # A reversed array, or another view, may not be one that PyTorch can share.
        self.images = torch.from_numpy(np.ascontiguousarray(images))
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, np.int64))
        self.config, self.no_class = config, denoiser.config.num_classes
        self.device = denoiser.device
        self.scheduler = make_scheduler(DDPMScheduler)

    def __call__(self, model: nn.Module, step: int, part: slice) -> tuple[Tensor, int]:
        images, labels, timesteps, noise = (each[part].to(self.device) for each in self.batch(step))
        noisy = self.scheduler.add_noise(images, noise, timesteps)
        target = self.scheduler.get_velocity(images, noise, timesteps)
        loss = F.mse_loss(model(noisy, timesteps, labels).float(), target)
        return loss, self.config.batch_size

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images from -1 to 1, class labels, timesteps and noise of a step."""
        size = self.config.batch_size
        generator = torch.Generator().manual_seed(self.config.seed * 2**32 + step)
        rows = torch.randint(len(self.images), (size,), generator=generator)
        images = self.images[rows].permute(0, 3, 1, 2) / 127.5 - 1
        dropped = torch.rand(size, generator=generator) < self.config.label_dropout
        labels = self.labels[rows].where(~dropped, self.no_class)
        num_timesteps = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(num_timesteps, (size,), generator=generator)
        return images, labels, timesteps, torch.randn(images.shape, generator=generator)


def _check_data(
    denoiser: Denoiser,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None,
) -> np.ndarray:
    """Check the arguments of `train_denoiser`; return images with an axis of channels."""
    model = denoiser.config
    images = images if images.ndim == 4 else images[..., None]
    expected = (model.sample_size, model.sample_size, model.in_channels)
    if images.shape[1:] != expected or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"images: {images.dtype} of shape {images.shape}; expected uint8 of shape "
            f"(N, {', '.join(map(str, expected))}), N >= 1"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: {labels.dtype} of shape {labels.shape}; expected integers of shape "
            f"({len(images)},)"
        )
    if labels.min() < 0 or labels.max() >= model.num_classes:
        raise ValueError(
            f"labels: {labels.min()} to {labels.max()}; expected 0 to {model.num_classes - 1}"
        )
    if class_names is not None and len(class_names) != model.num_classes:
        raise ValueError(f"class_names: {len(class_names)}; expected {model.num_classes}")
    return images


def _identity(
    denoiser: Denoiser,
    config: TrainingConfig,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None,
) -> dict[str, Any]:
    """What must not change when a run is resumed."""
    settings = asdict(config)
    del settings["save_steps"]
    return {
        "model": _model_config(denoiser),
        **settings,
        "images": digest_arrays([images]),
        "labels": digest_arrays([labels]),
        "class_names": None if class_names is None else digest_texts(class_names),
    }


def _model_config(denoiser: Denoiser) -> dict[str, Any]:
    """The constructor's arguments."""
    return {name: value for name, value in denoiser.config.items() if not name.startswith("_")}


def write_metadata(
    folder: Path, result: TrainingResult, config: TrainingConfig, source: str
) -> None:
    """Write README.md and results.json beside a saved pipeline, and remove its checkpoint.

    Args:
        folder: the folder of the pipeline.
        result: the result of the run.
        config: the hyperparameters of the run.
        source: name of the data.
    """
    denoiser = result.pipeline.denoiser
    card = model_card(
        folder.resolve().name,
        f"A diffusion model that generates images, trained with hyperagg on {source}.",
        {"library_name": "diffusers", "pipeline_tag": "unconditional-image-generation"},
        [
            f"classes: {len(result.pipeline.labels):,}",
            f"image size: {denoiser.config.sample_size} × {denoiser.config.sample_size}",
            f"mixer: {denoiser.config.mixer}",
            f"parameters: {denoiser.num_parameters():,}",
        ],
        "from hyperagg.diffusion import DenoiserPipeline\n\n"
        f"pipeline = DenoiserPipeline.from_pretrained({folder.resolve().name!r})\n"
        "pipeline([0, 1]).images[0].show()",
    )
    results = {
        "data": source,
        "model": _model_config(denoiser),
        "parameters": denoiser.num_parameters(),
        "training_config": asdict(config),
        "seconds": result.seconds,
        "loss": result.loss,
    }
    with atomic_write(folder / "README.md") as draft:
        draft.write_text(card, "utf-8")
    with atomic_write(folder / "results.json") as draft:
        draft.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    remove_checkpoint(checkpoint_path(folder))
