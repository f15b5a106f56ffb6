"""The denoiser and its noise scheduler as a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from torch import Tensor

from hyperagg._common.atomic import apply_umask, atomic_write
from hyperagg._common.saved_files import raise_as_corrupt
from hyperagg._common.validation import check_choice, check_integer, check_path
from hyperagg.diffusion.model import Denoiser
from hyperagg.diffusion.saved_folder import check_pipeline_folder, read_pipeline_folder

__all__ = ["DenoiserPipeline", "load_pipeline", "make_scheduler", "to_images"]

# Written to every saved folder, for processes that have not imported hyperagg.
_CODE = '''"""Defines the pipeline of this folder; requires hyperagg. Load it by

    DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
"""

from hyperagg.diffusion import DenoiserPipeline  # noqa: F401
'''


class DenoiserPipeline(DiffusionPipeline):
    """Generates images of given classes from noise.

    `DenoiserPipeline.from_pretrained` loads a saved folder. `DiffusionPipeline.from_pretrained`
    needs `custom_pipeline=folder, trust_remote_code=True`, since diffusers looks up the classes
    that a folder names in its own modules only.

    Args:
        denoiser: the trained model.
        scheduler: the sampler, with the noise schedule that the model was trained with.
        id2label: names of the classes by their numbers, which are strings as in JSON. Classes that
            it leaves out are named by their numbers.

    Attributes:
        labels: numbers of the classes by name.

    Raises:
        ValueError: `id2label` names a class that the model does not have, or two classes alike.

    >>> pipeline = DenoiserPipeline(Denoiser(d_model=16, num_layers=2), make_scheduler())
    >>> pipeline.set_progress_bar_config(disable=True)
    >>> pipeline([3], num_inference_steps=2, output_type="np").images.shape
    (1, 28, 28, 1)
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scheduler: DDIMScheduler,
        id2label: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)
        names = {str(i): str(i) for i in range(denoiser.config.num_classes)}
        if unknown := [key for key in id2label or {} if key not in names]:
            raise ValueError(
                f"id2label[{unknown[0]!r}]: expected a class number from '0' to '{len(names) - 1}'"
            )
        names |= id2label or {}
        self.labels = {name: int(i) for i, name in names.items()}
        if len(self.labels) < len(names):
            raise ValueError("id2label: expected a different name for each class")
        self.register_to_config(id2label=names)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> DenoiserPipeline:
        """Load a pipeline as `DiffusionPipeline.from_pretrained` does; a folder is checked first.

        Raises:
            ValueError: a file in the folder is damaged or out of bounds.
        """
        path = check_path("pretrained_model_name_or_path", pretrained_model_name_or_path)
        if path.is_dir():
            check_pipeline_folder(path)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

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
        """Generate one image for each of the given classes.

        With classifier-free guidance, the prediction is

            none + guidance_scale (class - none)

        where "none" is the prediction for no class.

        Args:
            class_labels: class numbers from 0 to C, where C is "no class".
            guidance_scale: 1 disables guidance; larger values give more typical and less varied
                images.
            num_inference_steps: number of denoising steps.
            generator: source of the initial noise; None: the global one of PyTorch.
            output_type: "pil" for PIL images, "np" for an array (B, height, width, channels), "pt"
                for a tensor (B, channels, height, width); the latter two from 0 to 1.
            callback: called after each step with its index and the images so far, a tensor (B,
                channels, height, width) whose final range is -1 to 1.

        Returns:
            an object with the attribute `images`.

        Raises:
            ValueError: an unknown class or output type.

        Cost: one prediction per step and image, two with guidance.
        Source: Ho and Salimans 2022, "Classifier-free diffusion guidance".
        """
        config, device = self.denoiser.config, self._execution_device
        for i, label in enumerate(class_labels):
            check_integer(f"class_labels[{i}]", label, 0, config.num_classes)
        check_choice("output_type", output_type, ("pil", "np", "pt"))
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
                with_class, without = prediction.chunk(2)
                prediction = without + guidance_scale * (with_class - without)
            x = self.scheduler.step(prediction, t, x).prev_sample
            if callback is not None:
                callback(i, x)
        return ImagePipelineOutput(images=to_images(x, output_type))

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the folder that `from_pretrained` loads: model, scheduler and a loader script."""
        super().save_pretrained(save_directory, *args, **kwargs)
        apply_umask(Path(save_directory), "*.safetensors")
        with atomic_write(Path(save_directory) / "pipeline.py") as draft:
            draft.write_text(_CODE, "utf-8")


def make_scheduler(kind: type = DDIMScheduler) -> Any:
    """Return the noise schedule of all denoisers: 1,000 timesteps, cosine, v-prediction.

    The model predicts v = sqrt(a) noise - sqrt(1 - a) image for the noisy image
    sqrt(a) image + sqrt(1 - a) noise. Predicted images are not clipped, because the noise that
    belongs to a clipped image would not match the model's prediction.

    Args:
        kind: scheduler class of diffusers: DDIMScheduler to sample, DDPMScheduler to train.

    Source: Nichol and Dhariwal 2021 (cosine schedule); Salimans and Ho 2022 (v-prediction).
    """
    return kind(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )


def to_images(x: Tensor, output_type: str = "pil") -> Any:
    """Convert model output to the images that `DenoiserPipeline` returns.

    Args:
        x: (B, channels, height, width) from -1 to 1; values beyond are clipped.
        output_type: "pil", "np" or "pt", as in `DenoiserPipeline.__call__`.
    """
    x = (x / 2 + 0.5).clamp(0, 1).float()
    if output_type == "pt":
        return x
    array = x.permute(0, 2, 3, 1).cpu().numpy()
    return DiffusionPipeline.numpy_to_pil(array) if output_type == "pil" else array


def load_pipeline(folder: Path) -> DenoiserPipeline:
    """Load the pipeline that was saved in a local folder, with its progress bar switched off.

    The classes of the model and the scheduler are fixed; what the folder names is not imported.

    Raises:
        ValueError: the folder does not exist or does not hold a valid pipeline.
    """
    index = folder / "model_index.json"
    if not index.exists():
        reason = "does not contain model_index.json" if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder}: {reason}; expected a folder that `diffusion train` wrote")
    saved = read_pipeline_folder(folder)
    with raise_as_corrupt(folder, index.name):
        pipeline = DenoiserPipeline(saved.denoiser, saved.scheduler, saved.id2label)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
