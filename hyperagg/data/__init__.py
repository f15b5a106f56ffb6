"""Data sets by name, and texts and labels from files of one's own."""

from hyperagg.data.corpora import Corpus, load_corpus, read_corpus
from hyperagg.data.dataset import Dataset, Split
from hyperagg.data.errors import DataError
from hyperagg.data.files import FORMATS, read_file, read_pieces, read_texts
from hyperagg.data.lookup import Listing, list_datasets, load_dataset

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
    "read_corpus",
    "read_file",
    "read_pieces",
    "read_texts",
]
