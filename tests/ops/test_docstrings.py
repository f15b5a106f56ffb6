"""The examples in the docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["aggregate", "masks", "reference", "step", "tokens"])
def test_examples_run(name):
    module = importlib.import_module(f"hyperagg.ops.{name}")
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
