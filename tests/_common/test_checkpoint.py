"""Checkpoints keep arrays and a record."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg._common.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "state.safetensors"
    arrays = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "scalar": np.array(3.0),
        "counts": np.array([1, 2]),
        "empty": np.zeros((0, 4), np.float32),
    }
    write_checkpoint(file, arrays, {"run": "a", "step": 3})
    found, record = read_checkpoint(file)
    assert record == {"run": "a", "step": 3}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
    found["matrix"][0] = 1  # a copy that may be changed


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_another_file_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "state.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="not a checkpoint of hyperagg; delete it") as error:
        read_checkpoint(file)
    assert "\n" not in str(error.value)


def test_removing_takes_the_drafts_away_as_well(tmp_path):
    file = tmp_path / "state.safetensors"
    write_checkpoint(file, {"a": np.zeros(1)}, {"run": "a"})
    (tmp_path / ".state.safetensors.x1y2").write_bytes(b"")
    remove_checkpoint(file)
    remove_checkpoint(file)
    assert list(tmp_path.iterdir()) == []
