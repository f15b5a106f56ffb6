"""The steps of training a denoiser, and their state between two of them."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch import Tensor

from hyperagg._common.checkpoint import read_checkpoint, write_checkpoint
from hyperagg.diffusion.model import Denoiser

__all__ = ["DenoiserRun", "Recipe", "config_of", "new_scheduler"]


@dataclass(frozen=True)
class Recipe:
    """How a denoiser is trained: AdamW, a short warm-up, then a cosine down to nothing.

    Args:
        steps: of the optimizer.
        batch_size: pictures a step, over all processes.
        learning_rate: at its highest.
        ema: how much of the running mean of the weights, which is what is saved, a step keeps.
        label_dropout: share of the pictures whose class is left out, for guidance.
        bf16: compute in bfloat16 where that loses little (autocast); weights stay in float32.
        save_steps: how often a state to resume from is written.
        seed: of pictures, times and noise.
    """

    steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 8e-3
    ema: float = 0.995
    label_dropout: float = 0.1
    bf16: bool = False
    save_steps: int = 100
    seed: int = 0


LOG_STEPS = 50


def new_scheduler(kind: type = DDPMScheduler) -> Any:
    """1,000 times, cosine noise, prediction of v = sqrt(a) noise - sqrt(1 - a) picture.

    Foreseen pictures are not clipped: the noise that belongs to them would no longer fit.
    """
    return kind(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )


class DenoiserRun:
    """Weights, optimizer and running mean after so many steps."""

    def __init__(
        self,
        denoiser: Denoiser,
        images: np.ndarray,
        labels: np.ndarray,
        recipe: Recipe,
        accelerator: Accelerator,
    ) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.denoiser = denoiser.to(accelerator.device).train()
        self.images = torch.from_numpy(images if images.ndim == 4 else images[..., None])
        self.labels = torch.from_numpy(labels)
        self.mean = [parameter.detach().clone() for parameter in denoiser.parameters()]
        optimizer = torch.optim.AdamW(
            denoiser.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.model, self.optimizer = accelerator.prepare(denoiser, optimizer)
        self.scheduler = new_scheduler()
        self.step, self.seconds = 0, 0.0
        self.log: list[tuple[int, float]] = []
        self.losses: list[float] = []

    def advance(self) -> None:
        """One step."""
        began = time.perf_counter()
        pictures, labels, times, noise = self.batch()
        noisy = self.scheduler.add_noise(pictures, noise, times)
        wanted = self.scheduler.get_velocity(pictures, noise, times)
        with self.accelerator.autocast():
            loss = F.mse_loss(self.model(noisy, times, labels).float(), wanted)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.share_of_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        # A mean of few steps has little use for the weights that it began with.
        kept = min(self.recipe.ema, self.step / (9 + self.step))
        for mean, parameter in zip(self.mean, self.denoiser.parameters()):
            mean.lerp_(parameter.detach(), 1 - kept)
        self.losses.append(float(self.accelerator.reduce(loss.detach(), "mean")))
        if self.step % LOG_STEPS == 0 or self.step == self.recipe.steps:
            self.log.append((self.step, sum(self.losses) / len(self.losses)))
            self.losses = []
        self.seconds += time.perf_counter() - began

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures from -1 to 1, classes, times and noise of this process's part of a step."""
        recipe, processes = self.recipe, self.accelerator.num_processes
        generator = torch.Generator().manual_seed(recipe.seed * 2**32 + self.step)
        size = recipe.batch_size
        rows = torch.randint(len(self.images), (size,), generator=generator)
        pictures = self.images[rows].permute(0, 3, 1, 2) / 127.5 - 1
        dropped = torch.rand(size, generator=generator) < recipe.label_dropout
        labels = self.labels[rows].where(~dropped, self.denoiser.config.num_classes)
        steps = self.scheduler.config.num_train_timesteps
        times = torch.randint(steps, (size,), generator=generator)
        noise = torch.randn(pictures.shape, generator=generator)
        part = slice(self.accelerator.process_index, None, processes)
        device = self.accelerator.device
        return tuple(each[part].to(device) for each in (pictures, labels, times, noise))  # type: ignore[return-value]

    def share_of_rate(self) -> float:
        """Of the highest rate in this step."""
        warm_up = max(1, self.recipe.steps // 20)
        if self.step < warm_up:
            return (self.step + 1) / warm_up
        done = (self.step - warm_up) / max(1, self.recipe.steps - warm_up)
        return 0.5 * (1 + math.cos(math.pi * done))

    @torch.no_grad()
    def take_mean(self) -> None:
        """The running mean takes the place of the weights."""
        for mean, parameter in zip(self.mean, self.denoiser.parameters()):
            parameter.copy_(mean)

    def save(self, path: Path) -> None:
        """A state to resume from."""
        tensors: dict[str, Tensor] = {}
        for name, each in self.named():
            tensors |= {f"{kind}.{name}": tensor for kind, tensor in each.items()}
        record = {
            "run": self.identity(),
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
            "losses": self.losses,
        }
        write_checkpoint(path, tensors, record)

    def load(self, path: Path) -> None:
        tensors, record = read_checkpoint(path)
        if record["run"] != self.identity():
            raise ValueError(
                f"{path}: comes of another model, data or recipe; repeat the command as it was, "
                "or delete the file to start anew"
            )
        self.step, self.seconds = record["step"], record["seconds"]
        self.log = [(int(step), float(loss)) for step, loss in record["log"]]
        self.losses = record["losses"]
        state = self.optimizer.state
        for parameter in self.denoiser.parameters():
            state[parameter] = {"step": torch.tensor(float(self.step))}
            for kind in ("exp_avg", "exp_avg_sq"):
                state[parameter][kind] = torch.empty_like(parameter)
        for name, each in self.named():
            for kind, tensor in each.items():
                tensor.copy_(tensors[f"{kind}.{name}"])

    @torch.no_grad()
    def named(self) -> list[tuple[str, dict[str, Tensor]]]:
        """Of every parameter its value, running mean and moments, as they are in memory."""
        state = self.optimizer.state
        return [
            (
                name,
                {
                    "weight": parameter.data,
                    "mean": mean,
                    "exp_avg": state[parameter]["exp_avg"],
                    "exp_avg_sq": state[parameter]["exp_avg_sq"],
                },
            )
            for (name, parameter), mean in zip(self.denoiser.named_parameters(), self.mean)
        ]

    def identity(self) -> dict[str, Any]:
        """What has to be the same for a state to be of use; how often it is saved does not."""
        recipe = asdict(self.recipe)
        del recipe["save_steps"]
        return {"config": config_of(self.denoiser), "recipe": recipe, "rows": len(self.images)}


def config_of(denoiser: Denoiser) -> dict[str, int | str]:
    """The arguments that it was made with."""
    return {name: each for name, each in denoiser.config.items() if not name.startswith("_")}
