"""From noise to pictures: the denoiser and a scheduler as a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

try:
    import diffusers
    from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
    from diffusers.utils import logging
except ImportError as error:
    raise ImportError(
        "diffusion needs diffusers; pip install 'hyperagg[diffusion]' brings it"
    ) from error

from hyperagg._common.atomic import atomic_write
from hyperagg.diffusion.model import Denoiser

__all__ = ["DenoiserPipeline", "as_images", "load_pipeline"]

# In every saved folder, for processes that have not imported hyperagg.
_CODE = '''"""Lets DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER,
trust_remote_code=True) find the pipeline of this folder; hyperagg has to be installed."""

from hyperagg.diffusion.pipeline import DenoiserPipeline  # noqa: F401
'''


class DenoiserPipeline(DiffusionPipeline):
    """Draws pictures of given classes.

    Where this is imported, `DiffusionPipeline.from_pretrained` knows the folders that it saves.

    Args:
        denoiser: what predicts.
        scheduler: how to get from noise to a picture with it; of diffusers, as it was trained with.
        id2label: names of the classes, by their numbers; as strings, since JSON has no other keys.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scheduler: DDIMScheduler,
        id2label: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)
        names = {str(i): str(i) for i in range(denoiser.config.num_classes)} | (id2label or {})
        self.labels = {name: int(i) for i, name in names.items()}
        self.register_to_config(id2label=names)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int],
        guidance_scale: float = 2.0,
        num_inference_steps: int = 50,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        callback: Callable[[int, Tensor], None] | None = None,
    ) -> ImagePipelineOutput:
        """A picture of each class given.

        prediction = any + guidance_scale (class - any), where "any" is the prediction for no class.

        Args:
            class_labels: numbers in 0 ... C; C is "any".
            guidance_scale: 1 takes the prediction for the class as it is; more of it, more typical
                pictures and less variety.
            num_inference_steps: of the scheduler.
            generator: of the noise.
            output_type: "pil" pictures; "np" (B, height, width, channels) or "pt" (B, channels,
                height, width), from 0 to 1.
            callback: called with the number of each step that is done, and the pictures so far,
                (B, channels, height, width) from -1 to 1 and beyond.

        Returns:
            `images` in it.

        Raises:
            ValueError: a class that is not there.
        """
        config, device = self.denoiser.config, self._execution_device
        if wrong := [i for i in class_labels if not 0 <= i <= config.num_classes]:
            raise ValueError(f"class_labels: {wrong[0]} is not in 0 ... {config.num_classes}")
        shape = (len(class_labels), config.in_channels, config.sample_size, config.sample_size)
        noise_device = device if generator is None else generator.device
        x = torch.randn(shape, generator=generator, device=noise_device, dtype=self.denoiser.dtype)
        x = x.to(device)
        labels = torch.tensor(class_labels, device=device, dtype=torch.int64)
        guided = guidance_scale != 1
        if guided:
            labels = torch.cat([labels, torch.full_like(labels, config.num_classes)])
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for i, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            inputs = self.scheduler.scale_model_input(torch.cat([x, x]) if guided else x, t)
            prediction = self.denoiser(inputs, t, labels)
            if guided:
                wanted, any_class = prediction.chunk(2)
                prediction = any_class + guidance_scale * (wanted - any_class)
            x = self.scheduler.step(prediction, t, x).prev_sample
            if callback is not None:
                callback(i, x)
        return ImagePipelineOutput(images=as_images(x, output_type))

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """The folder that `from_pretrained` reads: model, scheduler, and where their code is."""
        super().save_pretrained(save_directory, *args, **kwargs)
        with atomic_write(Path(save_directory) / "pipeline.py") as draft:
            draft.write_text(_CODE, "utf-8")


def as_images(x: Tensor, output_type: str = "pil") -> Any:
    """Pictures (B, channels, height, width) from -1 to 1 as `DenoiserPipeline` gives them."""
    x = (x / 2 + 0.5).clamp(0, 1).float()
    if output_type == "pt":
        return x
    array = x.permute(0, 2, 3, 1).cpu().numpy()
    return DiffusionPipeline.numpy_to_pil(array) if output_type == "pil" else array


def load_pipeline(folder: Path) -> DenoiserPipeline:
    """The pipeline that was saved in `folder`, without progress bars.

    Raises:
        ValueError: the folder is not there, or holds no such pipeline.
    """
    if not (folder / "model_index.json").is_file():
        what = (
            "there is no model_index.json in it" if folder.is_dir() else "there is no such folder"
        )
        raise ValueError(f"{folder}: {what}; name one that `diffusion train` wrote")
    logging.disable_progress_bar()
    try:
        pipeline = DenoiserPipeline.from_pretrained(folder)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{folder}: no denoiser can be read from it ({reason})") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# DiffusionPipeline.from_pretrained looks for the class that a folder names in diffusers alone.
diffusers.DenoiserPipeline = DenoiserPipeline
