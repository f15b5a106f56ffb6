"""What a release has to pass, in fresh environments.

    nox                              all of it, on the Python versions that are found
    nox -s build                     the wheel, the source distribution and their metadata
    nox -s "install-3.12(newest)"    one cell of the matrix
    nox -s audit                     known vulnerabilities of the pinned versions

Every session but `build` needs dist/, which `build` makes.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["build", "sdist", "install", "audit"]

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
DIST = Path("dist")
# Of these, the tests without the markers run in a minute and need no extra.
TESTS = [f"tests/{name}" for name in ("_common", "_numba", "classifier", "data", "text")]
FAST = ["-q", "-m", "not slow and not network and not gpu and not torch", *TESTS]
# What a stranger does first, with the data set of the wheel.
SMOKE = """
import hyperagg
data = hyperagg.load_dataset("banking77")
clf = hyperagg.TextClassifier(epochs=3).fit(data.train.texts, data.train.labels, seed=0)
scores = clf.evaluate(data.test.texts, data.test.labels)
print(hyperagg.__version__, hyperagg.__file__, scores)
assert scores["accuracy"] > 0.8
"""


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution and from it the wheel, and check their metadata."""
    session.install("build", "twine")
    for old in DIST.glob("hyperagg-*"):
        old.unlink()
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, DIST.glob("hyperagg-*")))


@nox.session
def sdist(session: nox.Session) -> None:
    """Run the fast tests of the unpacked source distribution on its own files."""
    source = unpack(session)
    session.install(str(source), *tools())
    session.chdir(source)
    session.run("python", "-m", "pytest", *FAST)


@nox.session(python=PYTHONS, venv_backend="uv")
@nox.parametrize("dependencies", ["oldest", "newest"], ids=["oldest", "newest"])
def install(session: nox.Session, dependencies: str) -> None:
    """Install the wheel with the oldest or newest allowed dependencies, and run the fast tests."""
    (wheel,) = DIST.glob("hyperagg-*.whl")
    versions = Path(session.create_tmp()) / "versions.txt"
    resolution = "lowest-direct" if dependencies == "oldest" else "highest"
    compile = ["uv", "pip", "compile", "--quiet", "--resolution", resolution, "pyproject.toml"]
    session.run(*compile, "--output-file", str(versions), external=True)
    session.install("--requirements", str(versions), str(wheel))
    session.run("uv", "pip", "list", external=True)
    session.run("hyperagg", "--version")
    session.run("python", "-P", "-c", SMOKE)  # not the package in this folder
    # Of the test tools the newest: their age says nothing about the package.
    session.install("--constraint", str(versions), *tools())
    # Without the folder of the package, so that the tests import the installed wheel.
    source = unpack(session)
    (source / "hyperagg").rename(source / "not-imported")
    session.chdir(source)
    session.run("python", "-m", "pytest", *FAST)


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities of the versions that the tests run with."""
    session.install("pip-audit")
    session.run("pip-audit", "--no-deps", "--disable-pip", "-r", "constraints.txt")


def unpack(session: nox.Session) -> Path:
    """Unpack the source distribution into the session's temporary folder; return its root."""
    (archive,) = DIST.glob("hyperagg-*.tar.gz")
    folder = Path(session.create_tmp()).resolve()
    source = folder / archive.name.removesuffix(".tar.gz")
    shutil.rmtree(source, ignore_errors=True)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return source


def tools() -> list[str]:
    """The requirements of the extras that the fast tests need."""
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    needed = ("pytest>", "hypothesis", "beartype", "pandas", "polars", "pillow")
    offered = [*extras["test"], *extras["multimodal"]]
    found = [each for each in offered if each.startswith(needed)]
    return ["pip", *found, *extras["sklearn"], *extras["hub"], *extras["tokenizers"]]
