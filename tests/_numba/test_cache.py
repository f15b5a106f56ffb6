"""The kernel cache: a change of any source file recompiles, and no directory is required."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hyperagg._numba import cache

KERNEL = """
import numpy as np
from hyperagg._numba.cache import njit
from hyperagg._numba.simd import dot, pad_to_vector

@njit(nogil=True, cache=True)
def square(x):
    return dot(x, 0, x, 0, 0, 1)

@njit(nogil=True, cache=True)
def double(x):
    return 2 * x[0, 0]

if __name__ == "__main__":
    x = pad_to_vector(np.full((1, 4), 3, dtype=np.float32))
    print(square(x), double(x))
"""


class Copy:
    """A package named hyperagg with a copy of `hyperagg._numba` and two small kernels."""

    def __init__(self, folder: Path) -> None:
        self.root, self.package = folder, folder / "hyperagg"
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(cache.__file__).parent, self.package / "_numba", ignore=skipped)
        (self.package / "__init__.py").touch()
        (self.package / "kernels.py").write_text(KERNEL)

    def run(self, module: str = "hyperagg.kernels", **environment: str) -> tuple[str, list[str]]:
        """What the kernels return, and the lines on standard error."""
        kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
        done = subprocess.run(
            [sys.executable, "-m", module],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.root,
            env={**kept, **environment},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr.splitlines()

    def cached(self, folder: Path | None = None) -> set[Path]:
        return set((folder or self.package).rglob("*.nb[ic]"))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


@pytest.mark.slow
def test_a_changed_intrinsic_in_another_file_recompiles(copy):
    result, lines = copy.run()
    assert result == "36.0 6.0"
    assert len(lines) == 1 and "compiling kernels, each once per installation" in lines[0]
    files = copy.cached()
    assert len(files) == 4
    assert copy.run() == (result, []), "the second process loads the machine code"

    # A file of the same size and time, as in a wheel, whose files have a fixed time.
    simd = copy.package / "_numba" / "simd.py"
    status, source = simd.stat(), simd.read_text()
    begin = source.index("def dot(")
    changed = source[:begin] + source[begin:].replace("fmul(x.load()", "fadd(x.load()", 1)
    assert changed != source and len(changed) == len(source)
    simd.write_text(changed)
    os.utime(simd, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.rmtree(
        simd.parent / "__pycache__", ignore_errors=True
    )  # Python itself compares only size and time
    result, lines = copy.run()
    assert result == "24.0 6.0" and len(lines) == 1
    assert len(copy.cached()) == 4 and not copy.cached() & files, "old files are removed"


@pytest.mark.slow
def test_damaged_files_are_replaced(copy):
    copy.run()
    for file in copy.cached():
        file.write_bytes(file.read_bytes()[:20])
    assert copy.run()[0] == "36.0 6.0"
    assert copy.run() == ("36.0 6.0", [])


@pytest.mark.slow
def test_read_only_package_without_home(copy, tmp_path):
    for folder in (copy.package, copy.package / "_numba"):
        (folder / "__pycache__").touch()  # a file: not even root can make a directory of it
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}
    result, lines = copy.run(**environment)
    assert result == "36.0 6.0" and len(lines) == 1
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(copy.cached(folder)) == 4
    assert copy.run(**environment) == (result, [])

    # Whatever others could have written is not trusted.
    folder.chmod(0o777)
    result, lines = copy.run(**environment)
    assert result == "36.0 6.0" and len(lines) == 1 and "NUMBA_CACHE_DIR" in lines[0]
    own = tmp_path / "own"
    assert len(copy.run(**environment, NUMBA_CACHE_DIR=str(own))[1]) == 1
    assert len(copy.cached(own)) == 4
    assert copy.run(**environment, NUMBA_CACHE_DIR=str(own)) == (result, [])


@pytest.mark.slow
def test_a_filled_read_only_cache_is_read(copy):
    copy.run()
    # As if nothing could be written anywhere; the file itself is not part of a kernel's digest.
    (copy.package / "readonly.py").write_text(
        "from hyperagg._numba import cache\n"
        "cache._can_write = lambda directory: False\n"
        "import runpy\n"
        "runpy.run_module('hyperagg.kernels', None, '__main__')\n"
    )
    assert copy.run(module="hyperagg.readonly") == ("36.0 6.0", [])


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_digest_covers_what_is_imported(tmp_path, monkeypatch):
    package = tmp_path / "hyperagg"
    monkeypatch.setattr(cache, "_PACKAGE", package)

    def digest() -> str | None:
        cache._read.cache_clear()
        return cache.source_digest(kernels)

    kernels = write(
        package, "kernels.py", "import numpy\nfrom hyperagg.a import (\n    b as c,\n)\n"
    )
    parts = [
        write(package, "a/__init__.py", ""),
        write(package, "a/b.py", "import hyperagg.d\n"),
        write(package, "d.py", "N = 1\n"),
    ]
    other = write(package, "other.py", "N = 1\n")
    seen = {digest()}
    for path in [kernels, *parts]:
        path.write_text(path.read_text() + "\n# changed\n")
        assert digest() not in seen
        seen.add(digest())
    other.write_text("N = 2\n")
    assert digest() in seen
    cache._read.cache_clear()


def test_every_kernel_of_the_package_has_this_cache():
    package = Path(cache.__file__).parents[1]
    others = (path for path in package.rglob("*.py") if path != Path(cache.__file__))
    importing = [
        p for p in others if re.search(r"^from numba import .*\bnjit\b", p.read_text(), re.M)
    ]
    assert importing == [], "import njit from hyperagg._numba.cache"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_only_directories_of_this_user_are_trusted(tmp_path):
    private = tmp_path / "a" / "kernels"
    assert cache._private(private) == private.resolve()
    assert private.stat().st_mode & 0o777 == 0o700
    link = tmp_path / "link"
    link.symlink_to(private)
    assert cache._private(link) == private.resolve()
    private.chmod(0o770)
    assert cache._private(private) is cache._private(link) is None
    private.chmod(0o700)
    private.parent.chmod(0o777)  # others could put their own directory in its place
    assert cache._private(private) is None
    private.parent.chmod(0o1777)  # the sticky bit forbids that
    assert cache._private(private) is not None
    assert cache._private(Path("/proc/hyperagg/kernels")) is None
    if os.getuid() == 0:
        os.chown(private, 65534, -1)
        assert cache._private(private) is None


def test_no_home_directory(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert cache._user_directory() is None
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no entry for the user
    assert cache._user_directory() is None


def test_kernels_without_a_compiler_are_refused_in_one_line():
    code = """
from hyperagg import TextClassifier
try:
    TextClassifier().fit(["a b", "c d"] * 9, ["x", "y"] * 9)
except ValueError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.stdout == (
        "NUMBA_DISABLE_JIT=1: expected it to be 0 or unset, since the kernels are compiled by "
        "Numba\n"
    ), ran.stderr
