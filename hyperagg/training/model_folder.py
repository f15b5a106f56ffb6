"""A model's folder: config.json, model.safetensors, tokenizer.json and README.md.

Beside them may lie training.safetensors, by which a model can learn on. In model.safetensors the
embedding may be kept in 8 bits, a row as whole numbers from -127 to 127 and what they are times.

What is written is whole or not there; what cannot be read is told by file, reason and remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyperagg.atomic import atomic_write

__all__ = [
    "SCALES",
    "blame",
    "locate",
    "pack",
    "read_config",
    "read_training",
    "read_weights",
    "write",
]

SMALL, SCALES = "embedding.int8", "embedding.scales"
FORMAT, FORMAT_VERSION = "hyperagg.TextClassifier", 2


def write(
    folder: Path,
    described: Mapping[str, Any],
    texts: Mapping[str, str],
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """config.json from `described`, and by file name `texts` and `tensors`."""
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **described}
    texts = {"config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n", **texts}
    # All are whole on the disk before the first takes its place, and config.json, which makes the
    # folder a model, takes it last.
    with ExitStack() as drafts:
        for name, text in texts.items():
            draft = drafts.enter_context(atomic_write(folder / name))
            draft.write_text(text, encoding="utf-8")
        for name, named in tensors.items():
            if not named:  # nothing to keep: nor of what was saved here before
                (folder / name).unlink(missing_ok=True)
                continue
            draft = drafts.enter_context(atomic_write(folder / name))
            save_file({k: v.contiguous() for k, v in named.items()}, draft, {"format": "pt"})


def locate(folder: str | Path) -> Path:
    path = Path(folder)
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{path}: is a file; give the folder of a model")
    name = str(folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(f"{path}: no such folder; give one that save_pretrained wrote")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        files = ["*.json", "*.safetensors", "README.md"]
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{name}: no such folder, and no such model could be had from the Hugging Face hub"
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: not a model folder, it has no config.json") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged, it is no JSON; save the model again") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ValueError(f"{file}: not a hyperagg text classifier")
    if described.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{file}: of format version {shorten(described.get('format_version'))}, but this "
            f"hyperagg reads version {FORMAT_VERSION}; train anew or use the hyperagg that wrote it"
        )
    return described


def pack(rows: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """Rows that are whole multiples of their scales, in 8 bits a number."""
    return {SMALL: (rows / scales[:, None]).round().to(torch.int8), SCALES: scales}


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of model.safetensors, which have the names and shapes of `expected`.

    An embedding in 8 bits is unpacked, and its scales are given as well.
    """
    weights = load_file(path / "model.safetensors")
    if SMALL in weights and SCALES in weights:
        small, scales = weights.pop(SMALL), weights[SCALES]
        if small.dtype != torch.int8 or small.ndim != 2 or scales.shape != small.shape[:1]:
            raise ValueError(f"tensors {SMALL} and {SCALES} do not fit each other")
        weights["embedding"] = small.float() * scales[:, None]
        expected = {**expected, SCALES: scales}
    for name in weights:
        if name not in expected:
            raise ValueError(f"tensor {shorten(name)} is none of this model's")
    for name, own in expected.items():
        if name not in weights:
            raise ValueError(f"has no tensor {name}")
        found = weights[name]
        if found.shape != own.shape or not found.is_floating_point():
            raise ValueError(
                f"tensor {name} is {list(found.shape)} of {found.dtype}, but config.json and "
                f"tokenizer.json ask for {list(own.shape)} of floats"
            )
    return weights


def read_training(path: Path, expected: Mapping[str, int]) -> dict[str, Tensor]:
    """The tensors of training.safetensors, of these lengths; none if it is not there."""
    file = path / "training.safetensors"
    found = load_file(file) if file.exists() else {}
    if found and {name: tuple(tensor.shape) for name, tensor in found.items()} != {
        name: (length,) for name, length in expected.items()
    }:
        raise ValueError("it is not of this model")
    return found


@contextmanager
def blame(path: Path, name: str) -> Iterator[None]:
    """Whatever goes wrong inside is told of the file `name` of the model folder `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {name} is missing; save the model again") from error
    except Exception as error:  # this very class is what the tokenizers library raises
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path / name}: damaged ({reason[:200]}); save the model again"
        ) from error
