"""Reads and writes model folders: config.json, model.safetensors, tokenizer-N.json, README.md.

N is the index of a text column among the columns of the model. Writing is atomic. Reading trusts
nothing: the caller checks every field, and an error names the file, the reason and the remedy. This
module needs no PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.saved_files import (
    anything,
    check_fields,
    check_finite,
    format_config,
    object_of,
    raise_as_corrupt,
    read_config_if_any,
    read_json,
    read_text,
)
from hyperagg._common.tensors import (
    BELONGS_TO,
    TensorInfo,
    check_belongs,
    digest_model,
    load_tensors,
    read_header,
    write_tensors,
)

__all__ = ["SavedModel", "is_multimodal", "read", "write"]

FORMAT_PREFIX, FORMAT_VERSION = "hyperagg.Multimodal", 1
MODELS = ("MultimodalClassifier", "MultimodalRegressor")
_SCHEMA = {
    **dict.fromkeys(("arguments", "target", "history"), object_of(anything)),
    "columns": object_of(object_of(anything)),
}


@dataclass(frozen=True)
class SavedModel:
    """The content of a model folder.

    Args:
        path: the folder.
        model: "MultimodalClassifier" or "MultimodalRegressor".
        config: the content of config.json; a text column has its tokenizer's JSON as "tokenizer".
        tensors: what the header of model.safetensors says.
        digest: of the configuration and the tokenizers, which the tensors belong to.
    """

    path: Path
    model: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    digest: str

    def load_tensors(self) -> dict[str, np.ndarray]:
        """Read model.safetensors.

        Raises:
            ValueError: a value is not finite, or the tensors were saved with another configuration
                or tokenizer.
        """
        file = self.path / "model.safetensors"
        check_belongs(file, self.digest)
        tensors = load_tensors(file)
        for name, array in tensors.items():
            check_finite(name, array)
        return tensors


def is_multimodal(folder: str | Path) -> bool:
    """Whether a folder holds a multimodal model. Needs no PyTorch.

    >>> is_multimodal("nowhere")
    False
    """
    return str(read_config_if_any(folder).get("format")).startswith(FORMAT_PREFIX)


def write(
    folder: Path,
    model: str,
    config: Mapping[str, Any],
    tokenizers: Mapping[int, str],
    tensors: Mapping[str, np.ndarray],
    card: str,
) -> None:
    """Write a model folder.

    Args:
        folder: where; it is made if it does not exist.
        model: name of the class.
        config: JSON values for config.json.
        tokenizers: by index of a text column, the JSON of its tokenizer.
        tensors: the parameters.
        card: the text of README.md.
    """
    content = {"format": f"hyperagg.{model}", "format_version": FORMAT_VERSION, **config}
    texts = {
        # The first draft is put into place last: config.json makes the folder a model.
        "config.json": format_config(content),
        "README.md": card,
        **{_tokenizer_file(index): text for index, text in tokenizers.items()},
    }
    with ExitStack() as drafts:
        for name, text in texts.items():
            drafts.enter_context(atomic_write(folder / name)).write_text(text, "utf-8")
        draft = drafts.enter_context(atomic_write(folder / "model.safetensors"))
        digest = _digest(json.loads(texts["config.json"]), tokenizers)
        write_tensors(draft, tensors, {"format": "pt", BELONGS_TO: digest})


def read(path: Path) -> SavedModel:
    """Read a model folder.

    Raises:
        ValueError: it does not hold a multimodal model of this version, or a file is missing or
            damaged.
    """
    with raise_as_corrupt(path, "config.json"):
        config = read_json(path / "config.json")
    if not str(config.get("format")).startswith(FORMAT_PREFIX):
        raise ValueError(f"{path}: not the folder of a multimodal model of hyperagg")
    model = str(config["format"]).removeprefix("hyperagg.")
    version = config.get("format_version")
    if model not in MODELS or version is True or version != FORMAT_VERSION:
        raise ValueError(
            f"{path / 'config.json'}: {shorten(model)} of format version {shorten(version)} was "
            "written by another version of hyperagg; train the model again"
        )
    with raise_as_corrupt(path, "config.json"):
        check_fields(config, _SCHEMA)
        kinds = [column["kind"] for column in config["columns"].values()]
    tokenizers = {}
    for index, kind in enumerate(kinds):
        if kind == "text":
            name = _tokenizer_file(index)
            with raise_as_corrupt(path, name):
                tokenizers[index] = read_text(path / name)
    digest = _digest(config, tokenizers)
    columns = list(config["columns"].values())
    for index, text in tokenizers.items():
        columns[index]["tokenizer"] = text
    with raise_as_corrupt(path, "model.safetensors"):
        tensors = read_header(path / "model.safetensors")
        if len(tensors) < len(columns):  # before one module is made for each
            raise ValueError(f"{len(tensors):,} tensors; config.json has {len(columns):,} columns")
    return SavedModel(path, model, config, tensors, digest)


def _digest(config: Mapping[str, Any], tokenizers: Mapping[int, str]) -> str:
    return digest_model(config, (tokenizers[index] for index in sorted(tokenizers)))


def _tokenizer_file(index: int) -> str:
    return f"tokenizer-{index}.json"
