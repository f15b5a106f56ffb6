from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.language.packing import pack

documents = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=8)


@given(documents, st.integers(1, 7))
def test_rows_hold_the_documents_and_say_where_each_begins(documents, length):
    stream = [token for document in documents for token in (0, *document)] + [0]
    if len(stream) < length:
        with pytest.raises(ValueError, match="less than one sequence"):
            pack(documents, 0, length)
        return
    rows = pack(documents, 0, length)
    whole = len(stream) // length * length
    assert rows.token_ids.flatten().tolist() == stream[:whole]
    for row, places in zip(rows.token_ids, rows.position_ids):
        expected, place = [], -1
        for token in row:
            place = 0 if token == 0 else place + 1
            expected.append(place)
        assert places.tolist() == expected


def test_an_item_is_what_the_model_is_called_with():
    item = pack([[5, 6], [7]], 0, 3)[1]
    assert {name: value.tolist() for name, value in item.items()} == {
        "input_ids": [0, 7, 0],
        "labels": [0, 7, 0],
        "position_ids": [0, 1, 0],
    }
    assert item["input_ids"].numpy().dtype == np.int64
