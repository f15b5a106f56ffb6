"""Files are written whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from hyperagg._common.atomic import (
    apply_umask,
    atomic_folder,
    atomic_write,
    name_write_errors,
    remove_drafts,
)
from hyperagg._common.checkpoint import write_checkpoint


def test_a_failure_leaves_the_file_and_no_draft(tmp_path):
    file = tmp_path / "page.html"
    file.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_write(file) as draft:
        draft.write_text("half")
        raise OSError("disk full")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_names_the_file(tmp_path):
    file = tmp_path / "page.html"
    with pytest.raises(OSError, match="No space left") as error, atomic_write(file):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(file)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)), atomic_write(tmp_path) as draft:
        draft.write_text("new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_error_names_what_was_asked_for_and_not_the_draft(tmp_path):
    (tmp_path / "file").write_text("")
    under, long = tmp_path / "file" / "model.onnx", tmp_path / ("a" * 250)
    for path in (under, under / "model.onnx", long):
        with pytest.raises(OSError) as error, atomic_write(path):
            pass
        assert error.value.filename == str(path)
        assert ("Not a directory" in str(error.value)) == (path != long)
    with pytest.raises(OSError) as error, atomic_folder(under, last="config.json"):
        pass
    assert error.value.filename == str(under)


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    with atomic_write(pipe) as draft:
        draft.write_text("page")
    reader.join(60)
    assert found == ["page"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path, exists):
    target, link = tmp_path / "far" / "page.html", tmp_path / "page.html"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to(target)
    with atomic_write(link) as draft:
        draft.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new" and not target.is_symlink()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664), (0o022, 0o644)])
def test_the_umask_determines_the_permissions(tmp_path, umask, mode):
    page, state = tmp_path / "page.html", tmp_path / "state.safetensors"
    before = os.umask(umask)
    try:
        with atomic_write(page) as draft:
            draft.write_text("page")
        write_checkpoint(state, {"a": np.zeros(1)}, {"run": "a"})
        other = tmp_path / "part" / "other.safetensors"
        other.parent.mkdir()
        other.touch()
        other.chmod(0o600)  # as safetensors leaves it
        apply_umask(tmp_path, "*.safetensors")
    finally:
        os.umask(before)
    files = page, state, other
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [mode] * 3
    assert set(tmp_path.rglob("*")) == {*files, other.parent}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_files_of_a_folder_are_replaced_together(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("config.json", "sub/weights", "notes.txt"):
        (tmp_path / name).write_text("old")
    before, order = contents(tmp_path), []

    def write(draft):
        (draft / "sub").mkdir()
        for name in ("config.json", "sub/weights", "more"):
            (draft / name).write_text("new")

    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path, "config.json") as draft:
        write(draft)
        raise KeyboardInterrupt
    assert contents(tmp_path) == before
    replace = Path.replace

    def record(self, target):
        order.append(target.name)
        return replace(self, target)

    with (
        mock.patch.object(Path, "replace", record),
        atomic_folder(tmp_path, "config.json") as draft,
    ):
        write(draft)
    assert contents(tmp_path) == {
        "config.json": "new", "more": "new", "notes.txt": "old", "sub/weights": "new",
    }  # fmt: skip
    assert order[-1] == "config.json"


def test_a_name_that_is_taken_by_a_folder_is_noticed_before_anything_is_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_text("old")
    with pytest.raises(IsADirectoryError) as error, atomic_folder(tmp_path, "b") as draft:
        (draft / "a").write_text("new")
        (draft / "b").write_text("new")
    assert error.value.filename == str(tmp_path / "b")
    with pytest.raises(IsADirectoryError) as error, atomic_write(tmp_path / "b"):
        pass
    assert error.value.filename == str(tmp_path / "b")
    assert contents(tmp_path) == {"a": "old"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EFBIG, "File too large", "copied.py", None, "copy.py"), "File too large"),
        (Exception("Error: I/O error: File too large (os error 27)"), "File too large"),
        (
            RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed"),
            "Input/output error",
        ),
    ],
)
def test_a_full_disk_is_an_error_of_the_file_whatever_library_notices_it(tmp_path, error, reason):
    with pytest.raises(OSError, match=reason) as found, name_write_errors(tmp_path):
        raise error
    assert found.value.filename == str(tmp_path)
    with pytest.raises(RuntimeError, match="another"), name_write_errors(tmp_path):
        raise RuntimeError("another")


def test_only_drafts_are_removed(tmp_path):
    for name in (".config.json.0123456789abcdef.json", ".weights.0123456789abcdef", ".bashrc",
                 ".git", "a.0123456789abcdef", ".config.json.0123456789abcdeg.json"):  # fmt: skip
        (tmp_path / name).write_text("")
    (tmp_path / ".draft.0123456789abcdef").mkdir()
    (tmp_path / ".draft.0123456789abcdef" / "weights").write_text("")
    remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".bashrc", ".config.json.0123456789abcdeg.json", ".git", "a.0123456789abcdef",
    ]  # fmt: skip
