"""Writes safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

__all__ = ["write_tensors"]


def write_tensors(
    draft: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str], name: Path
) -> None:
    """Write arrays to the draft of the file `name`.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    # Not ascontiguousarray, which gives a number a dimension.
    contiguous = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    try:
        save_file(contiguous, draft, metadata)
    except SafetensorError as error:  # which is not an OSError, even if the disk is full
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise OSError(f"{name}: cannot be written ({reason})") from error
