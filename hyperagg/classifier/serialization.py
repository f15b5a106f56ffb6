"""Reads and writes model folders: config.json, model.safetensors, tokenizer.json and README.md.

training.safetensors may accompany them; `partial_fit` needs it. In model.safetensors the embedding
may be quantized: each row consists of integers from -127 to 127 and a scale.

Writing is atomic. Reading trusts nothing: every field has a type and a range, every tensor a shape,
and an error names the file, the reason and the remedy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.hub import locate_model
from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg._common.saved_files import (
    MAX_CONFIG_BYTES,
    check_finite,
    check_tensors,
    format_config,
    parse_json,
    raise_as_corrupt,
    read_text,
)
from hyperagg._common.tensors import (
    BELONGS_TO,
    TensorInfo,
    check_belongs,
    digest_model,
    load_tensors,
    map_tensors,
    read_header,
    write_tensors,
)
from hyperagg._common.validation import check_bool, check_choice, check_integer, check_real
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.history import History
from hyperagg.classifier.kernels.tree import check_tree
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.model_card import classifier_card
from hyperagg.classifier.pooling import NUM_BLOCKS
from hyperagg.classifier.quantization import INT8, SCALES, pack, unpack
from hyperagg.classifier.training.labels import ClassWeight, check_class_weight, check_label
from hyperagg.text import Tokenizer, read_tokenizer, register_tokenizer

__all__ = ["SavedClassifier", "read", "write"]

FORMAT, FORMAT_VERSION = "hyperagg.TextClassifier", 4

_MAX_CLASSES = 2**24
_MAX_EPOCHS = 2**20
_KEYS = {"format", "format_version", "classes", "multi_label", "class_weight", "history"}


def write(
    folder: Path,
    config: ClassifierConfig,
    decoder: LabelDecoder,
    class_weight: ClassWeight,
    history: History,
    tokenizer: Tokenizer,
    model: ClassifierModel,
    scales: np.ndarray | None,
    training_state: Mapping[str, np.ndarray],
) -> None:
    """Write a model folder; `scales` are those of a quantized embedding."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "classes": list(decoder.classes),
        "multi_label": decoder.multi_label,
        # Pairs, since the keys of a JSON object cannot be integers.
        "class_weight": (
            [list(item) for item in class_weight.items()]
            if isinstance(class_weight, Mapping)
            else class_weight
        ),
        "history": vars(history),
        **vars(config),
    }
    if (loss := _fasttext_loss(model, decoder)) is not None:
        content["fasttext_loss"] = loss
    texts = {
        "config.json": format_config(content),
        "README.md": classifier_card(
            folder.resolve().name, model, decoder, history, quantized=scales is not None
        ),
        "tokenizer.json": tokenizer.to_json(),
    }
    # The metadata that other libraries expect before they read tensors for PyTorch, and our own.
    metadata = {
        "format": "pt",
        BELONGS_TO: digest_model(json.loads(texts["config.json"]), [texts["tokenizer.json"]]),
    }
    parameters = model.arrays
    if scales is not None:
        parameters |= pack(parameters.pop("embedding"), scales)
    arrays = {"model.safetensors": parameters, "training.safetensors": training_state}
    # All files are complete on disk before the first replaces an old one; config.json, which makes
    # the folder a model, is replaced last.
    with ExitStack() as drafts:
        for name, text in texts.items():
            draft = drafts.enter_context(atomic_write(folder / name))
            draft.write_text(text, encoding="utf-8")
        for name, named in arrays.items():
            if not named:  # a file of an earlier model would not fit this one
                (folder / name).unlink(missing_ok=True)
                continue
            draft = drafts.enter_context(atomic_write(folder / name))
            write_tensors(draft, named, metadata)


def _fasttext_loss(model: ClassifierModel, decoder: LabelDecoder) -> str | None:
    """What the output layer of a converted model computes, other than a softmax of its logits or a
    sigmoid of each."""
    if decoder.stepped:
        return "ova" if decoder.multi_label else "ns"
    return None if model.tree is None else "hs"


@dataclass(frozen=True)
class SavedClassifier:
    """The content of a model folder; its arrays are read on demand.

    Attributes:
        text_digest: of config.json and tokenizer.json, in hexadecimal.
        has_tree: whether the output layer is a hierarchical softmax.
        digest: of what the tensors belong to.
    """

    path: Path
    config: ClassifierConfig
    decoder: LabelDecoder
    class_weight: ClassWeight
    history: History
    tokenizer: Tokenizer
    text_digest: str
    has_tree: bool
    digest: str

    def model(self, mmap: bool = False) -> tuple[ClassifierModel, np.ndarray | None]:
        """Read model.safetensors: the parameters, and the scales (V,) of a quantized embedding.

        With `mmap` the parameters are mapped read-only instead of copied into memory.
        """
        d_model, num_classes = self.config.d_model, len(self.decoder.classes)
        shapes = {
            "embedding": (len(self.tokenizer), d_model),
            "positions": (NUM_BLOCKS, d_model),
            "weight": (num_classes, d_model),
            "bias": (num_classes,),
        }
        if self.has_tree:
            shapes["tree"] = (num_classes - 1, 2)
        with raise_as_corrupt(self.path, "model.safetensors"):
            arrays, scales = _read_arrays(self.path / "model.safetensors", shapes, mmap)
            check_belongs(self.path / "model.safetensors", self.digest)
        if mmap and arrays["embedding"].flags.writeable:  # a conversion of what is mapped
            raise ValueError(
                f"mmap=True: the embedding of {self.path} is quantized or not float32, so it is "
                "converted in memory; pass mmap=False"
            )
        return ClassifierModel(**arrays, pooling=self.config.pooling), scales

    def training_state(self, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Read the arrays of training.safetensors, of these lengths; {} if it does not exist."""
        file = self.path / "training.safetensors"
        if not file.exists():
            return {}
        with raise_as_corrupt(self.path, file.name):
            found = load_tensors(file)
            check_belongs(file, self.digest)
            if {name: array.shape for name, array in found.items()} != {
                name: (length,) for name, length in lengths.items()
            }:
                raise ValueError("its arrays do not match the model")
            for name, array in found.items():
                if np.issubdtype(array.dtype, np.integer) != name.endswith("counts"):
                    raise ValueError(f"array {name} has dtype {array.dtype}")
                if not (np.isfinite(array).all() and (array >= 0).all()):
                    raise ValueError(f"array {name} holds values that are not finite and >= 0")
        return found


def read(
    folder: str | Path, *, revision: str | None = None, token: str | bool | None = None
) -> SavedClassifier:
    """Read the model of a folder or of a repository of the Hugging Face Hub.

    Raises:
        ValueError: the folder does not exist, a file is missing or damaged, or it is not a model
            of this library and version; the methods of the result raise it as well.
    """
    path = locate_model(folder, revision=revision, token=token)
    digest = hashlib.blake2b(digest_size=16)
    content = _read_config(path, digest)
    with raise_as_corrupt(path, "config.json"):
        config, decoder, class_weight, history, has_tree = _parse_config(content)
    with raise_as_corrupt(path, "tokenizer.json"):
        text = read_text(path / "tokenizer.json")
        tokenizer = read_tokenizer(text)
        belongs_to = digest_model(content, [text])
        digest.update(text.encode("utf-8"))
    text_digest = digest.hexdigest()
    return SavedClassifier(
        path, config, decoder, class_weight, history, tokenizer, text_digest, has_tree, belongs_to
    )


def _read_fasttext_tokenizer(text: str) -> Tokenizer:
    # Imported on demand: most models have another tokenizer, and this one has kernels of its own.
    from hyperagg.classifier.interop.fasttext_tokenizer import FastTextTokenizer

    return FastTextTokenizer.from_json(text)


register_tokenizer("hyperagg.FastTextTokenizer", _read_fasttext_tokenizer)


def _read_config(path: Path, digest: hashlib.blake2b) -> dict[str, Any]:
    file = path / "config.json"
    try:
        with raise_as_corrupt(path, "config.json"):
            text = read_text(file, MAX_CONFIG_BYTES)
            content = parse_json(text)
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            if (path / "checkpoint.safetensors").exists():
                raise ValueError(
                    f"{path}: holds an interrupted training and no model yet; continue it with "
                    "hyperagg train --resume"
                ) from error
            raise ValueError(f"{path}: not a model folder; it has no config.json") from error
        raise
    digest.update(text.encode("utf-8"))
    if content.get("format") != FORMAT:
        found = content.get("format")
        if isinstance(found, str) and found.startswith("hyperagg.Multimodal"):
            raise ValueError(
                f"{path}: a model of several columns; expected a classifier of text alone"
            )
        raise ValueError(f"{file}: not a text classifier of hyperagg")
    if content.get("format_version") != FORMAT_VERSION:
        version = shorten(content.get("format_version"))
        raise ValueError(
            f"{file}: format version {version} was written by another version of hyperagg, and "
            f"this one reads version {FORMAT_VERSION}; train the model again"
        )
    return content


def _parse_config(
    content: Mapping[str, Any],
) -> tuple[ClassifierConfig, LabelDecoder, ClassWeight, History, bool]:
    names = {f.name for f in fields(ClassifierConfig)}
    loss = content.get("fasttext_loss", "softmax")
    _check_keys(content, names | _KEYS | ({"fasttext_loss"} & content.keys()))
    check_choice("fasttext_loss", loss, ("softmax", "hs", "ns", "ova"))
    config = ClassifierConfig(**{name: content[name] for name in names})
    classes = _check_classes(content["classes"])
    multi_label = check_bool("multi_label", content["multi_label"])
    class_weight = content["class_weight"]
    if isinstance(class_weight, list):
        class_weight = dict(class_weight)
    class_weight = check_class_weight(class_weight, classes)
    history = _parse_history(content["history"])
    if loss != "softmax" and multi_label != (loss == "ova"):
        raise ValueError(f"fasttext_loss={loss!r}: does not fit multi_label={multi_label}")
    decoder = LabelDecoder(classes, multi_label, history.threshold, loss in ("ns", "ova"))
    return config, decoder, class_weight, history, loss == "hs"


def _parse_history(content: object) -> History:
    if not isinstance(content, dict):
        raise ValueError(f"history={shorten(content)}: expected an object")
    # Earlier models lack these.
    content = {"num_unlabelled": 0, "num_validation": 0, "validation_loss": [], **content}
    _check_keys(content, {f.name for f in fields(History)})
    history = History(**content)
    check_integer("history.num_texts", history.num_texts, 0)
    check_integer("history.num_unlabelled", history.num_unlabelled, 0)
    check_integer("history.num_validation", history.num_validation, 0)
    check_integer("history.best_epoch", history.best_epoch, -1, _MAX_EPOCHS)
    check_real("history.temperature", history.temperature, 0, open_minimum=True)
    check_real("history.threshold", history.threshold, 0, 1)
    for name in (
        "loss",
        "validation_score",
        "validation_loss",
        "seconds",
        "expected_calibration_error",
    ):
        values = content[name]
        if not isinstance(values, list) or len(values) > _MAX_EPOCHS:
            raise ValueError(f"history.{name}={shorten(values)}: expected a list of numbers")
        for value in values:
            check_real(f"history.{name}", value)
    if len(history.expected_calibration_error) not in (0, 2):
        raise ValueError("history.expected_calibration_error: expected two numbers")
    if history.validation_score and not 0 <= history.best_epoch < len(history.validation_score):
        raise ValueError(f"history.best_epoch={history.best_epoch}: not an epoch of the run")
    return history


def _check_keys(content: Mapping[str, Any], expected: set[str]) -> None:
    if missing := sorted(expected - content.keys()):
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(content.keys() - expected):
        raise ValueError(f"{shorten(unknown[0])} is not a known key")


def _check_classes(classes: object) -> list[Label]:
    if (
        not isinstance(classes, list)
        or not 1 <= len(classes) <= _MAX_CLASSES
        or len(set(classes)) != len(classes)
    ):
        raise ValueError("classes: expected a list of distinct labels")
    return [check_label(label, "classes") for label in classes]


def _read_arrays(
    file: Path, shapes: Mapping[str, tuple[int, ...]], mmap: bool
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    found = read_header(file)
    _check_header(found, shapes)
    arrays = map_tensors(file) if mmap else load_tensors(file)
    scales = None
    if INT8 in arrays and SCALES in arrays:
        integers, scales = arrays.pop(INT8), arrays.pop(SCALES)
        scales = _as_float32(SCALES, scales)
        with np.errstate(over="ignore"):  # infinity is refused below
            arrays["embedding"] = unpack(integers, scales)
    if "tree" in shapes:
        arrays["tree"] = np.require(arrays["tree"], requirements="A")
        check_tree(arrays["tree"])
    return {
        name: arrays[name] if name == "tree" else _as_float32(name, arrays[name]) for name in shapes
    }, scales


def _check_header(found: Mapping[str, TensorInfo], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check what a file says of its tensors, before they are read."""
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        name: (shape, "integers" if name == "tree" else "floats") for name, shape in shapes.items()
    }
    if INT8 in found and SCALES in found:
        shape, _ = expected.pop("embedding")
        expected |= {INT8: (shape, "int8"), SCALES: (shape[:1], "floats")}
    check_tensors(found, expected)


def _as_float32(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = np.require(array, np.float32, "A")  # a file of another program may be unaligned
    check_finite(name, array)
    return array
