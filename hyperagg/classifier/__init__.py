"""Classifies texts on CPUs, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "ClassifierConfig",
    "ClassifierModel",
    "Evaluation",
    "Explanation",
    "History",
    "OnnxTokenizer",
    "Predictor",
    "Progress",
    "StreamingDocument",
    "TextClassifier",
    "TuningResult",
    "evaluation_page",
    "explanation_page",
    "load_predictor",
    "tune",
]

if TYPE_CHECKING:
    from hyperagg._common.evaluation import Evaluation
    from hyperagg.classifier.config import ClassifierConfig
    from hyperagg.classifier.estimator import TextClassifier
    from hyperagg.classifier.evaluation_report import evaluation_page
    from hyperagg.classifier.explanation import Explanation
    from hyperagg.classifier.explanation_report import explanation_page
    from hyperagg.classifier.history import History
    from hyperagg.classifier.interop.onnx_tokenizer import OnnxTokenizer
    from hyperagg.classifier.model import ClassifierModel
    from hyperagg.classifier.predictor import Predictor, load_predictor
    from hyperagg.classifier.streaming import StreamingDocument
    from hyperagg.classifier.training.loop import Progress
    from hyperagg.classifier.tuning.search import TuningResult, tune

_MODULES = {
    "ClassifierConfig": "config",
    "ClassifierModel": "model",
    "Evaluation": "estimator",
    "Explanation": "explanation",
    "History": "history",
    "OnnxTokenizer": "interop.onnx_tokenizer",
    "Predictor": "predictor",
    "Progress": "training.loop",
    "StreamingDocument": "streaming",
    "TextClassifier": "estimator",
    "TuningResult": "tuning.search",
    "evaluation_page": "evaluation_report",
    "explanation_page": "explanation_report",
    "load_predictor": "predictor",
    "tune": "tuning.search",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a prediction does not wait for the modules that train.
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
