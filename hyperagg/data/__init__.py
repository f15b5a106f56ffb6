"""Loads public data sets by name, and reads texts, tables, images and audio from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperagg.data.dataset import Dataset, Split
from hyperagg.data.datasets.corpora import Corpus, load_corpus, read_corpus
from hyperagg.data.datasets.lookup import Listing, list_datasets, load_dataset
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.files import FORMATS, read_chunks, read_file, read_texts
from hyperagg.data.readers.sources import expand_sources
from hyperagg.data.readers.stream import RowBatch, stream_rows
from hyperagg.data.readers.table import Table, read_table

if TYPE_CHECKING:
    from hyperagg.data.datasets.digits import AudioClips, Digits, Images, load_fsdd, load_mnist
    from hyperagg.data.readers.audio import read_audio
    from hyperagg.data.readers.images import ImageFolder, read_image, read_image_folder

__all__ = [
    "FORMATS",
    "AudioClips",
    "Corpus",
    "DataError",
    "Dataset",
    "Digits",
    "ImageFolder",
    "Images",
    "Listing",
    "RowBatch",
    "Split",
    "Table",
    "expand_sources",
    "list_datasets",
    "load_corpus",
    "load_dataset",
    "load_fsdd",
    "load_mnist",
    "read_audio",
    "read_chunks",
    "read_corpus",
    "read_file",
    "read_image",
    "read_image_folder",
    "read_table",
    "read_texts",
    "stream_rows",
]

# Imported on first use: these modules need NumPy, which the command line does not wait for.
_MODULES = {
    "AudioClips": "datasets.digits",
    "Digits": "datasets.digits",
    "ImageFolder": "readers.images",
    "Images": "datasets.digits",
    "load_fsdd": "datasets.digits",
    "load_mnist": "datasets.digits",
    "read_audio": "readers.audio",
    "read_image": "readers.images",
    "read_image_folder": "readers.images",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"hyperagg.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'hyperagg.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
