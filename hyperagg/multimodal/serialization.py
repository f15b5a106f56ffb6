"""Reads and writes model folders: config.json, model.safetensors, tokenizer-N.json, README.md.

N is the index of a text column among the columns of the model. Writing is atomic. Reading trusts
nothing: the caller checks every field, and an error names the file, the reason and the remedy. This
module needs no PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from hyperagg._common.atomic import atomic_write
from hyperagg._common.tensors import BELONGS_TO, check_belongs, digest_texts, write_tensors

__all__ = ["SavedModel", "is_multimodal", "raise_as_corrupt", "read", "write"]

FORMAT_PREFIX, FORMAT_VERSION = "hyperagg.Multimodal", 1
MODELS = ("MultimodalClassifier", "MultimodalRegressor")
MAX_CONFIG_BYTES = 2**26


@dataclass(frozen=True)
class SavedModel:
    """The content of a model folder.

    Args:
        path: the folder.
        model: "MultimodalClassifier" or "MultimodalRegressor".
        config: the content of config.json; a text column has its tokenizer's JSON as "tokenizer".
        tensors: the content of model.safetensors.
        digest: of what the rows of the tensors are: the columns, the target and the tokenizers.
    """

    path: Path
    model: str
    config: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    digest: str

    def check_tensors(self) -> None:
        """Raise ValueError if the tensors were saved with other columns, targets or tokenizers."""
        check_belongs(self.path / "model.safetensors", self.digest)


def is_multimodal(folder: str | Path) -> bool:
    """Whether a folder holds a multimodal model. Needs no PyTorch.

    >>> is_multimodal("nowhere")
    False
    """
    try:
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and str(config.get("format")).startswith(FORMAT_PREFIX)


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
        "config.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
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
    if not is_multimodal(path):
        raise ValueError(f"{path}: not the folder of a multimodal model of hyperagg")
    with raise_as_corrupt(path, "config.json"):
        file = path / "config.json"
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is larger than any configuration")
        config = json.loads(file.read_text("utf-8"))
    model = str(config["format"]).removeprefix("hyperagg.")
    version = config.get("format_version")
    if model not in MODELS or version != FORMAT_VERSION:
        raise ValueError(
            f"{path / 'config.json'}: {shorten(model)} of format version {shorten(version)} was "
            "written by another version of hyperagg; train the model again"
        )
    with raise_as_corrupt(path, "config.json"):
        kinds = [column["kind"] for column in config["columns"].values()]
    tokenizers = {}
    for index, kind in enumerate(kinds):
        if kind == "text":
            name = _tokenizer_file(index)
            with raise_as_corrupt(path, name):
                tokenizers[index] = (path / name).read_text("utf-8")
    digest = _digest(config, tokenizers)
    columns = list(config["columns"].values())
    for index, text in tokenizers.items():
        columns[index]["tokenizer"] = text
    with raise_as_corrupt(path, "model.safetensors"):
        tensors = load_file(path / "model.safetensors")
    return SavedModel(path, model, config, tensors, digest)


def _digest(config: Mapping[str, Any], tokenizers: Mapping[int, str]) -> str:
    rows = json.dumps([config.get("columns"), config.get("target")])
    return digest_texts([rows, *(tokenizers[index] for index in sorted(tokenizers))])


@contextmanager
def raise_as_corrupt(path: Path, name: str) -> Iterator[None]:
    """Turn any error into a ValueError that names the file `name` of the model folder `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {name} is missing; save the model again") from error
    except ImportError:
        raise  # a missing extra is not a damaged file
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ValueError(
            f"{path / name}: damaged ({reason[:200]}); save the model again"
        ) from error


def _tokenizer_file(index: int) -> str:
    return f"tokenizer-{index}.json"
