"""Errors of writing tensors."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import SafetensorError

from hyperagg._common import tensors
from hyperagg._common.checkpoint import write_checkpoint


def test_a_full_disk_is_an_os_error_that_names_the_file(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(tensors, "save_file", full)
    file = tmp_path / "state.safetensors"
    with pytest.raises(OSError, match=f"^{file}: cannot be written .*No space left") as error:
        write_checkpoint(file, {"a": np.zeros(1)}, {"run": "a"})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
