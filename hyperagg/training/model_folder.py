"""A model's folder: config.json, model.safetensors, tokenizer.json and README.md.

What is written is whole or not there; what cannot be read is told by file, reason and remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from hyperagg.atomic import atomic_write

__all__ = ["blame", "locate", "read_config", "read_weights", "write"]

FORMAT, FORMAT_VERSION = "hyperagg.TextClassifier", 1


def write(
    folder: Path,
    described: Mapping[str, Any],
    texts: Mapping[str, str],
    weights: Mapping[str, Tensor],
) -> None:
    """config.json from `described`, `texts` by file name, and the weights."""
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **described}
    texts = {"config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n", **texts}
    # All are whole on the disk before the first takes its place, and config.json, which makes the
    # folder a model, takes it last.
    with ExitStack() as drafts:
        for name, text in texts.items():
            draft = drafts.enter_context(atomic_write(folder / name))
            draft.write_text(text, encoding="utf-8")
        draft = drafts.enter_context(atomic_write(folder / "model.safetensors"))
        save_file({k: v.contiguous() for k, v in weights.items()}, draft, {"format": "pt"})


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


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of model.safetensors, which have the names and shapes of `expected`."""
    weights = load_file(path / "model.safetensors")
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
