"""Data sets by name, and texts and labels from files of one's own."""

from hyperagg.data.datasets.corpora import Corpus, load_corpus, read_corpus
from hyperagg.data.datasets.dataset import Dataset, Split
from hyperagg.data.datasets.lookup import Listing, list_datasets, load_dataset
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.files import FORMATS, read_chunks, read_file, read_texts

__all__ = [
    "FORMATS",
    "Corpus",
    "DataError",
    "Dataset",
    "Listing",
    "Split",
    "list_datasets",
    "load_corpus",
    "load_dataset",
    "read_chunks",
    "read_corpus",
    "read_file",
    "read_texts",
]
