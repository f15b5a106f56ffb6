from __future__ import annotations

import doctest
from importlib.util import find_spec

import pytest

from hyperagg.language import (
    cache,
    configuration_hyperagg,
    heads,
    modeling_hyperagg,
    packing,
    perplexity,
    sequence_parallel,
    tokenizer,
    trainer,
)

MODULES = [
    cache,
    configuration_hyperagg,
    heads,
    modeling_hyperagg,
    packing,
    perplexity,
    sequence_parallel,
    tokenizer,
    trainer,
]


if find_spec("onnx"):
    from hyperagg.language import onnx_export

    MODULES.append(onnx_export)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_docstring_examples_run(module):
    failed, attempted = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted and not failed
