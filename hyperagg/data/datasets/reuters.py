"""Reuters as in Keras: 11,228 newswires of 1987 on 46 topics, 80 % of them for training.

Keras stores the newswires as lists of word ids. The texts are rebuilt from the ids, so they are
lower case and without punctuation, with all words and not only the most frequent ones.
Source: keras.datasets.reuters (https://keras.io/api/datasets/reuters/), whose digests these are.
"""

from __future__ import annotations

import io
import json
from typing import Any

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.download import download
from hyperagg.data.datasets.entry import Entry

STORAGE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
WIRES_SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
WORDS_MD5 = "4d44cc38712099c9e383dc6e5f11a921"
SEED = 113
TEST_FRACTION = 0.2

# In the order of Keras's label ids.
TOPIC_NAMES = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves "
    "ship cotton carcass crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin "
    "strategic-metal livestock retail ipi iron-steel rubber heat jobs lei bop zinc orange pet-chem "
    "dlr gas silver wpi hog lead"
)
TOPICS = tuple(TOPIC_NAMES.split())


def fetch() -> tuple[Split, Split]:
    """Download train and test from Keras's storage."""
    import numpy as np

    wires = download(f"{STORAGE}/reuters.npz", "sha256", WIRES_SHA256)
    words = download(f"{STORAGE}/reuters_word_index.json", "md5", WORDS_MD5)
    # An .npz stores lists of unequal length as pickles, which can run code. It is loaded only after
    # `download` has checked that these are the bytes that Keras published.
    with np.load(io.BytesIO(wires), allow_pickle=True) as arrays:
        return decode(arrays["x"], arrays["y"], json.loads(words))


def decode(x: Any, y: Any, word_index: dict[str, int]) -> tuple[Split, Split]:
    """Return texts and topics, shuffled and split as by keras.datasets.reuters.load_data().

    Args:
        x: array of lists of word ids as stored, without the start token and the offset of 3 that
            load_data adds.
        y: array of label ids, 0 to 45.
        word_index: maps words to ids.
    """
    import numpy as np

    order = np.arange(len(x))
    np.random.RandomState(SEED).shuffle(order)
    words = {number: word for word, number in word_index.items()}
    texts = [" ".join(words[number] for number in x[i]) for i in order]
    labels = [TOPICS[y[i]] for i in order]
    cut = int(len(texts) * (1 - TEST_FRACTION))
    return Split(texts[:cut], labels[:cut]), Split(texts[cut:], labels[cut:])


ENTRY = Entry(
    name="reuters",
    description="Reuters newswires of 1987, 46 topics, as in Keras",
    rows=(8_982, 2_246),
    terms="research only; cite Reuters-21578, Distribution 1.0",
    origin="Keras's storage (rebuilt from word ids: lower case, no punctuation)",
    megabytes=2.7,
    fetch=fetch,
)
