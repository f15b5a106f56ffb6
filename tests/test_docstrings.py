"""The examples in the docstrings run and print what they say.

Those of ops, layers, language and keras have tests beside the other tests of these folders.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import hyperagg

PACKAGE = Path(hyperagg.__file__).parent
ELSEWHERE = ("ops", "layers", "language", "keras.py")
EXAMPLES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8") and path.relative_to(PACKAGE).parts[0] not in ELSEWHERE
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_run(path, tmp_path, monkeypatch):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not result.failed
