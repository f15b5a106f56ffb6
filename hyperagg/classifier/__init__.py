"""Texts to labels on CPUs, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperagg.classifier.estimator import TextClassifier
    from hyperagg.classifier.predictor import load_predictor

__all__ = ["TextClassifier", "load_predictor"]

_MODULES = {"TextClassifier": "estimator", "load_predictor": "predictor"}


def __getattr__(name: str) -> Any:
    # Imported when first used: prediction needs a small part of what training needs.
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(f"hyperagg.classifier.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'hyperagg.classifier' has no attribute {name!r}")
