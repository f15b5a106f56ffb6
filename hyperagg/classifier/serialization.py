"""A model's folder: config.json, model.safetensors, tokenizer.json and README.md.

Beside them may lie training.safetensors, by which a model can learn on. In model.safetensors the
embedding may be kept in 8 bits, a row as whole numbers from -127 to 127 and what they are times.

What is written is whole or not there; what cannot be read is told by file, reason and remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from hyperagg._common.atomic import atomic_write
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.history import History
from hyperagg.classifier.pooling import BLOCKS
from hyperagg.classifier.training.labels import check_classes
from hyperagg.text import Tokenizer, read_tokenizer, register_tokenizer

__all__ = ["SCALES", "SMALL", "TABLES", "Saved", "pack", "read", "write"]

SMALL, SCALES = "embedding.int8", "embedding.scales"
# What the tables of `hyperagg.classifier.kernels.scoring.Weights` are called in the PyTorch module.
TABLES = "embedding", "mixer.positions.weight", "head.weight", "head.bias"
FORMAT, FORMAT_VERSION = "hyperagg.TextClassifier", 2


def write(
    folder: Path,
    described: Mapping[str, Any],
    texts: Mapping[str, str],
    tensors: Mapping[str, Mapping[str, np.ndarray]],
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
            # The format that other libraries ask for before they make PyTorch's tensors of them.
            save_file(
                {k: np.ascontiguousarray(v) for k, v in named.items()}, draft, {"format": "pt"}
            )


@dataclass(frozen=True)
class Saved:
    """What a model's folder says; its numbers are read when they are asked for."""

    path: Path
    config: ClassifierConfig
    answers: LabelDecoder
    history: History
    tokenizer: Tokenizer

    def weights(
        self, shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """The tensors of model.safetensors in float32, and the scales of an embedding in 8 bits.

        `shapes`: what there has to be; None: what aggregation has.
        """
        if shapes is None:
            d, classes = self.config.d_model, len(self.answers.classes)
            own = (len(self.tokenizer), d), (BLOCKS, d), (classes, d), (classes,)
            shapes = dict(zip(TABLES, own))
        with _blame(self.path, "model.safetensors"):
            found = _read_weights(self.path, shapes)
            return found, found.pop(SCALES, None)

    def training(self, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The tensors of training.safetensors, of these lengths; none if it is not there."""
        with _blame(self.path, "training.safetensors"):
            return _read_training(self.path, lengths)


def read(folder: str | Path) -> Saved:
    """The model of a folder, or of a Hugging Face repo id.

    Raises:
        ValueError: nothing there, a file missing or damaged, or not a model of this library; the
            same goes for the methods of what is returned.
    """
    path = _locate(folder)
    described = _read_config(path)
    known = {f.name for f in fields(ClassifierConfig)}
    with _blame(path, "config.json"):
        config = ClassifierConfig(**{k: v for k, v in described.items() if k in known})
        history = History(**described["history"])
        several = bool(described["several_labels"])
        answers = LabelDecoder(check_classes(described["classes"]), several, history.threshold)
    with _blame(path, "tokenizer.json"):
        tokenizer = read_tokenizer((path / "tokenizer.json").read_text(encoding="utf-8"))
    return Saved(path, config, answers, history, tokenizer)


def _locate(folder: str | Path) -> Path:
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


def _read_config(path: Path) -> dict[str, Any]:
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


def pack(rows: np.ndarray, scales: np.ndarray) -> dict[str, np.ndarray]:
    """Rows that are whole multiples of their scales, in 8 bits a number."""
    return {SMALL: np.rint(rows / scales[:, None]).astype(np.int8), SCALES: scales}


def _read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """An embedding in 8 bits is unpacked, and its scales are given as well."""
    weights = load_file(path / "model.safetensors")
    if SMALL in weights and SCALES in weights:
        small, scales = weights.pop(SMALL), weights[SCALES]
        if small.dtype != np.int8 or small.ndim != 2 or scales.shape != small.shape[:1]:
            raise ValueError(f"tensors {SMALL} and {SCALES} do not fit each other")
        weights["embedding"] = small * scales[:, None]
        shapes = {**shapes, SCALES: scales.shape}
    for name in weights:
        if name not in shapes:
            raise ValueError(f"tensor {shorten(name)} is none of this model's")
    for name, shape in shapes.items():
        if name not in weights:
            raise ValueError(f"has no tensor {name}")
        found = weights[name]
        if found.shape != shape or not np.issubdtype(found.dtype, np.floating):
            raise ValueError(
                f"tensor {name} is {list(found.shape)} of {found.dtype}, but config.json and "
                f"tokenizer.json ask for {list(shape)} of floats"
            )
    return {name: array.astype(np.float32, copy=False) for name, array in weights.items()}


def _read_training(path: Path, expected: Mapping[str, int]) -> dict[str, np.ndarray]:
    file = path / "training.safetensors"
    found = load_file(file) if file.exists() else {}
    if found and {name: tuple(tensor.shape) for name, tensor in found.items()} != {
        name: (length,) for name, length in expected.items()
    }:
        raise ValueError("it is not of this model")
    return found


def _read_fasttext_tokenizer(text: str) -> Tokenizer:
    # Imported here: most models have another tokenizer, and this one has kernels of its own.
    from hyperagg.classifier.interop.fasttext_tokenizer import FastTextTokenizer

    return FastTextTokenizer.from_json(text)


register_tokenizer("hyperagg.FastTextTokenizer", _read_fasttext_tokenizer)


@contextmanager
def _blame(path: Path, name: str) -> Iterator[None]:
    """Whatever goes wrong inside is told of the file `name` of the model folder `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {name} is missing; save the model again") from error
    except ImportError:  # a missing extra is not damage
        raise
    except Exception as error:  # this very class is what the tokenizers library raises
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path / name}: damaged ({reason[:200]}); save the model again"
        ) from error
