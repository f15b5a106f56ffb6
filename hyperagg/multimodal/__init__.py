"""Classifiers and regressors of tables with text, numbers, categories, images and audio.

Everything that a row has is summed in one vector, so any column may be missing in any row. Needs
PyTorch: ``pip install 'hyperagg[multimodal]'``; `is_multimodal` runs without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hyperagg.multimodal.serialization import is_multimodal

if TYPE_CHECKING:
    from hyperagg.multimodal.encoder import ModalityInput, MultimodalEncoder, MultimodalNetwork
    from hyperagg.multimodal.estimator import (
        MultimodalClassifier,
        MultimodalRegressor,
        load_multimodal,
    )
    from hyperagg.multimodal.explanation import ExplainedText, Explanation
    from hyperagg.multimodal.modalities.audio import AudioFrames, AudioSamples
    from hyperagg.multimodal.modalities.base import Block, Modality, Tokens
    from hyperagg.multimodal.modalities.image import ImagePatches
    from hyperagg.multimodal.modalities.tabular import Category, Number, Words
    from hyperagg.multimodal.trainer import Progress

__all__ = [
    "AudioFrames",
    "AudioSamples",
    "Block",
    "Category",
    "ExplainedText",
    "Explanation",
    "ImagePatches",
    "Modality",
    "ModalityInput",
    "MultimodalClassifier",
    "MultimodalEncoder",
    "MultimodalNetwork",
    "MultimodalRegressor",
    "Number",
    "Progress",
    "Tokens",
    "Words",
    "is_multimodal",
    "load_multimodal",
]

_MODULES = {
    "AudioFrames": "modalities.audio",
    "AudioSamples": "modalities.audio",
    "Block": "modalities.base",
    "Category": "modalities.tabular",
    "ExplainedText": "explanation",
    "Explanation": "explanation",
    "ImagePatches": "modalities.image",
    "Modality": "modalities.base",
    "ModalityInput": "encoder",
    "MultimodalClassifier": "estimator",
    "MultimodalEncoder": "encoder",
    "MultimodalNetwork": "encoder",
    "MultimodalRegressor": "estimator",
    "Number": "modalities.tabular",
    "Progress": "trainer",
    "Tokens": "modalities.base",
    "Words": "modalities.tabular",
    "load_multimodal": "estimator",
}
_EXTRA_PACKAGES = {"accelerate", "jaxtyping", "torch"}


def __getattr__(name: str) -> Any:
    # Imported when first used, because commands ask `is_multimodal` without PyTorch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_PACKAGES:
            raise
        raise ImportError(
            f"{name} needs {error.name}: pip install 'hyperagg[multimodal]'", name=error.name
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
