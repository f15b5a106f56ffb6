"""Model folders on this machine and on the Hugging Face hub."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hyperagg._common.hub import locate_model, push_folder


def test_a_folder_is_itself(tmp_path):
    assert locate_model(tmp_path) == locate_model(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match=r"revision='main': .* not a repository id"):
        locate_model(tmp_path, revision="main")


def test_what_is_neither_a_folder_nor_an_id(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file; expected the folder of a model"):
        locate_model(tmp_path / "file")
    for name in ("nothing", "./owner/name", "/owner/name", "a/b/c", "~/x"):
        with pytest.raises(ValueError, match="not found; expected a folder that save_pretrained"):
            locate_model(name)


def test_a_missing_extra_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: locate_model("owner/name"), lambda: push_folder(print, "owner/name")):
        with pytest.raises(ImportError, match=r"pip install 'hyperagg\[hub\]'") as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_ids_are_downloaded_and_pushed(monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO", "hyperagg")
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def snapshot_download(name, **options):
        asked.update(name=name, **options)
        if options["revision"] == "absent":
            raise hub.errors.LocalEntryNotFoundError("absent")
        return str(tmp_path)

    class Api:
        def __init__(self, token):
            asked.update(token=token)

        def create_repo(self, repo_id, **options):
            asked.update(options)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **options):
            asked.update(
                files={path.name for path in folder_path.iterdir()}, title=folder_path.name
            )
            return SimpleNamespace(commit_url=f"https://example.org/{repo_id}")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "HfApi", Api)
    assert locate_model("owner/name", revision="v1", token="t") == tmp_path
    assert asked["revision"] == "v1" and asked["token"] == "t"
    assert "*.py" not in asked["allow_patterns"] and asked["etag_timeout"] <= 10
    assert "owner/name: no such folder; looking for it on the Hugging Face Hub" in caplog.text
    with pytest.raises(ValueError, match=r"owner/name: neither a folder nor a model"):
        locate_model("owner/name", revision="absent")

    def save(folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    assert push_folder(save, "owner/name", private=True) == "https://example.org/owner/name"
    assert asked["files"] == {"config.json"} and asked["title"] == "name" and asked["private"]
