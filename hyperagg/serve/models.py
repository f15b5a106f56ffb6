"""The models of a server: which product a folder belongs to, and how it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from hyperagg._common.hub import locate_model
from hyperagg._common.saved_files import read_config_if_any
from hyperagg.multimodal import is_multimodal

__all__ = ["Kind", "ServedModel", "load_models", "model_names"]

Kind = Literal["classifier", "multimodal", "language"]


class ServedModel(Protocol):
    """What the server needs of a model of any kind.

    Attributes:
        name: its name in paths and answers.
        source: the folder or the repository id that it was loaded from.
    """

    name: str
    source: str

    @property
    def kind(self) -> Kind:
        """The product that the model belongs to."""

    def warm_up(self) -> None:
        """Do once what requests do, so that no request waits for what is done lazily."""

    def info(self) -> dict[str, Any]:
        """Return what `/info` says about the model, as JSON values."""


def load_models(sources: Iterable[str | Path], *, threads: int | None = None) -> list[ServedModel]:
    """Load models to serve.

    Args:
        sources: folders of saved models, or repository ids of the Hugging Face Hub.
        threads: the number of threads that a call may use (default: all processors).

    Raises:
        ValueError: a model does not exist or is damaged, or two of them have the same name.
        ImportError: a model needs a package that is not installed.

    Example:
        >>> from hyperagg import TextClassifier
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> clf.save_pretrained("model")
        >>> load_models(["model"])[0].name
        'model'
    """
    named = [str(source) for source in sources]
    return [_load(source, name, threads) for source, name in zip(named, model_names(named))]


def model_names(sources: Sequence[str]) -> list[str]:
    """Return the names of models: the last part of each folder or repository id.

    Raises:
        ValueError: there are none, or two have the same name.
    """
    if not sources:
        raise ValueError("MODEL: expected at least one model")
    names = [Path(source).resolve().name or "model" for source in sources]
    for i, name in enumerate(names):
        if (first := names.index(name)) < i:
            raise ValueError(
                f"{sources[i]}: has the name {name!r}, as {sources[first]} has; models need "
                "different names, so rename a folder"
            )
    return names


def _load(source: str, name: str, threads: int | None) -> ServedModel:
    folder = locate_model(source)
    kind = _kind(folder)
    if kind == "language":
        from hyperagg.serve.language.model import ServedLanguageModel

        return ServedLanguageModel(source, name, folder, threads=threads)
    if kind == "multimodal":
        from hyperagg.serve.multimodal import ServedMultimodal

        return ServedMultimodal(source, name, folder)
    from hyperagg.serve.classifier import ServedClassifier

    return ServedClassifier(source, name, folder, threads=threads)


def _kind(folder: Path) -> Kind:
    """The kind of model in a folder; one that is none is reported by the loader of classifiers."""
    if is_multimodal(folder):
        return "multimodal"
    is_language = read_config_if_any(folder).get("model_type") == "hyperagg"
    return "language" if is_language else "classifier"
