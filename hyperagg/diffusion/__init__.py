"""Class-conditional image generation by a denoiser of patches (experimental)."""

from __future__ import annotations

try:
    import accelerate as _accelerate  # noqa: F401
    import diffusers as _diffusers  # noqa: F401
    import jaxtyping as _jaxtyping  # noqa: F401
    import PIL as _pillow  # noqa: F401
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"hyperagg.diffusion requires {error.name}: pip install 'hyperagg[diffusion]'"
    ) from error

from hyperagg.diffusion.model import Denoiser
from hyperagg.diffusion.pipeline import DenoiserPipeline, load_pipeline
from hyperagg.diffusion.trainer import TrainingConfig, TrainingResult, train_denoiser

__all__ = [
    "Denoiser",
    "DenoiserPipeline",
    "TrainingConfig",
    "TrainingResult",
    "load_pipeline",
    "train_denoiser",
]
