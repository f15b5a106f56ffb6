"""What the import contract in pyproject.toml does not say of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hyperagg

PACKAGE = Path(hyperagg.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
WITHOUT = ("torch", "scipy", "sklearn", "matplotlib", "tokenizers", "huggingface_hub")


def run_without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process in which no extra can be imported."""
    block = f"import sys\nfor name in {WITHOUT!r}:\n    sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True)


def test_no_module_is_named_utils():
    assert not [path for path in MODULES if path.stem in {"utils", "util", "helpers", "misc"}]


def test_no_pickle():
    for path in MODULES:
        text = path.read_text("utf-8")
        assert "import pickle" not in text and "torch.save" not in text and "torch.load" not in text


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_public_names_are_listed_and_can_be_imported():
    assert {"TextClassifier", "MultimodalClassifier", "load_predictor"} <= set(dir(hyperagg))
    for name in hyperagg.__all__:
        assert getattr(hyperagg, name) is not None


def test_everything_can_be_imported_by_a_star_without_extras():
    done = run_without_extras("from hyperagg import *\nprint(TextClassifier.__name__)")
    assert (done.stdout, done.returncode) == ("TextClassifier\n", 0), done.stderr


def test_the_classifier_and_its_commands_import_no_extra():
    code = """
import importlib, pkgutil, hyperagg
from hyperagg.cli import app
for folder in ("_numba", "_common", "text", "data", "classifier"):
    package = importlib.import_module(f"hyperagg.{folder}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        name = module.name
        if not any(part in name for part in ("torch", ".baselines", ".figures")):
            importlib.import_module(name)
for command in "train predict evaluate explain tune quantize convert compare data".split():
    importlib.import_module(f"hyperagg.cli.{command}")
"""
    done = run_without_extras(code)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_next_to_nothing():
    code = "import hyperagg; print('numpy' in sys.modules, 'numba' in sys.modules)"
    assert run_without_extras(code).stdout == "False False\n"
