"""The examples in the docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

NAMES = [
    "aggregate",
    "associative",
    "associative_reference",
    "masks",
    "reference",
    "step",
    "tokens",
]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    module = importlib.import_module(f"hyperagg.ops.{name}")
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
