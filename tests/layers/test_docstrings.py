from __future__ import annotations

import doctest

import pytest

from hyperagg.layers import (
    aggregation,
    associative,
    attention,
    batch_layout,
    bidirectional,
    causal,
    gated_associative,
    pooling,
    positions,
    recurrences,
)

MODULES = [
    aggregation,
    associative,
    attention,
    batch_layout,
    bidirectional,
    causal,
    gated_associative,
    pooling,
    positions,
    recurrences,
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_docstring_examples_run(module):
    failed, attempted = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted and not failed
