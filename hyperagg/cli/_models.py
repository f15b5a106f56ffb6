"""Which product a saved model belongs to."""

from __future__ import annotations

from hyperagg._common.saved_files import read_config_if_any

__all__ = ["is_multimodal"]


def is_multimodal(model: str) -> bool:
    """Whether `model` is the folder of a multimodal model; reads its config.json, not PyTorch."""
    return str(read_config_if_any(model).get("format")).startswith("hyperagg.Multimodal")
