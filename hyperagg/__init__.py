"""Linear-time sequence models by high-dimensional aggregation.

Token vectors are multiplied element-wise with position vectors and summed. `Aggregation` is the
layer, `TextClassifier` reads text and answers with labels, `load_dataset` brings real data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Aggregation",
    "Denoiser",
    "MultimodalEncoder",
    "MultimodalModel",
    "TextClassifier",
    "load_dataset",
]

if TYPE_CHECKING:
    from hyperagg.classifier.estimator import TextClassifier
    from hyperagg.data import load_dataset
    from hyperagg.diffusion.model import Denoiser
    from hyperagg.layers import Aggregation
    from hyperagg.multimodal.encoder import MultimodalEncoder
    from hyperagg.multimodal.estimator import MultimodalModel

_HOMES = {
    "Aggregation": "hyperagg.layers",
    "Denoiser": "hyperagg.diffusion.model",
    "MultimodalEncoder": "hyperagg.multimodal.encoder",
    "MultimodalModel": "hyperagg.multimodal.estimator",
    "TextClassifier": "hyperagg.classifier.estimator",
    "load_dataset": "hyperagg.data",
}


def __getattr__(name: str) -> Any:
    # Looked up when first used, so that a command which needs no torch does not wait for it.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hyperagg' has no attribute {name!r}")
