from __future__ import annotations

import doctest

import pytest

from hyperagg.language import (
    cache,
    configuration_hyperagg,
    modeling_hyperagg,
    packing,
    perplexity,
    tokenizer,
    trainer,
)

MODULES = [
    cache,
    configuration_hyperagg,
    modeling_hyperagg,
    packing,
    perplexity,
    tokenizer,
    trainer,
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_docstring_examples_run(module):
    failed, attempted = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted and not failed
