"""Linear-time sequence models by high-dimensional aggregation.

Token vectors are multiplied element-wise with position vectors and summed. `TextClassifier` learns
to label texts and needs no PyTorch; `load_predictor` reads a saved one for prediction alone;
`load_dataset` loads public data sets by name. Language models are in `hyperagg.language`, tables of
several modalities in `hyperagg.multimodal`, the layers and operations in `hyperagg.layers` and
`hyperagg.ops`; they need PyTorch: ``pip install 'hyperagg[torch]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hyperagg.classifier import TextClassifier, load_predictor
    from hyperagg.data import list_datasets, load_dataset
    from hyperagg.multimodal import MultimodalClassifier as MultimodalClassifier
    from hyperagg.multimodal import MultimodalRegressor as MultimodalRegressor

_MODULES = {
    "MultimodalClassifier": "hyperagg.multimodal",
    "MultimodalRegressor": "hyperagg.multimodal",
    "TextClassifier": "hyperagg.classifier",
    "list_datasets": "hyperagg.data",
    "load_dataset": "hyperagg.data",
    "load_predictor": "hyperagg.classifier",
}
# Without the multimodal estimators, so that `from hyperagg import *` needs no PyTorch.
__all__ = [
    "TextClassifier",
    "__version__",
    "list_datasets",
    "load_dataset",
    "load_predictor",
]


def __getattr__(name: str) -> Any:
    # Imported when first used, so that `import hyperagg` takes milliseconds.
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'hyperagg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
