"""The targets of the Makefile, as `make --dry-run` prints them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "extras"), [("demo", "torch,plot,baselines"), ("test-fast", "dev")]
)
def test_a_line_says_what_is_installed_and_for_how_long(tmp_path, target, extras):
    """pip is quiet, and downloads PyTorch for minutes."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--dry-run", target]
    lines = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    before, _, _ = lines.stdout.partition(f'-e ".[{extras}]"')
    assert f'echo "Installing hyperagg[{extras}] into .venv: usually a few minutes' in before
