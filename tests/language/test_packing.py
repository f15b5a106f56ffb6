from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.language.packing import pack

documents = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=8)


@given(documents, st.integers(1, 7))
def test_rows_hold_the_documents_and_their_positions(documents, sequence_length):
    stream = [token for document in documents for token in (0, *document)] + [0]
    if len(stream) < sequence_length:
        with pytest.raises(ValueError, match=f"sequence_length={sequence_length}: expected at"):
            pack(documents, 0, sequence_length)
        return
    dataset = pack(documents, 0, sequence_length)
    num_tokens = len(stream) // sequence_length * sequence_length
    assert dataset.input_ids.flatten().tolist() == stream[:num_tokens]
    for row, position_ids in zip(dataset.input_ids, dataset.position_ids):
        expected, position = [], -1
        for token in row:
            position = 0 if token == 0 else position + 1
            expected.append(position)
        assert position_ids.tolist() == expected


def test_an_item_holds_the_arguments_of_the_model():
    item = pack([[5, 6], [7]], 0, 3)[1]
    assert {name: value.tolist() for name, value in item.items()} == {
        "input_ids": [0, 7, 0],
        "labels": [0, 7, 0],
        "position_ids": [0, 1, 0],
    }
    assert item["input_ids"].numpy().dtype == np.int64
