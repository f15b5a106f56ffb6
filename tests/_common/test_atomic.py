"""Files are written whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading

import numpy as np
import pytest

from hyperagg._common.atomic import apply_umask, atomic_write
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
