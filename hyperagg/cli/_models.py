"""Which product a saved model belongs to."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["is_multimodal"]


def is_multimodal(model: str) -> bool:
    """Whether `model` is the folder of a multimodal model; reads its config.json, not PyTorch."""
    try:
        config = json.loads((Path(model) / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and str(config.get("format")).startswith("hyperagg.Multimodal")
