"""Checkpoints keep arrays and a record."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hyperagg._common.checkpoint import (
    check_same_run,
    check_space,
    digest_arrays,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)


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


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda metadata: metadata.pop("format"), "of another version of hyperagg; start again"),
        (lambda metadata: metadata.update(record='{"run": "b"}'), "not a checkpoint of hyperagg"),
    ],
)
def test_a_record_of_another_version_or_damaged_is_refused(tmp_path, change, message):
    """What an earlier version had not recorded was taken as empty, and another epoch was kept."""
    file = tmp_path / "state.safetensors"
    write_checkpoint(file, {"a": np.zeros(1)}, {"run": "a"})
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    change(metadata)
    save_file({"a": np.zeros(1)}, file, metadata)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(file)


def test_removing_takes_the_drafts_away_as_well(tmp_path):
    file = tmp_path / "state.safetensors"
    write_checkpoint(file, {"a": np.zeros(1)}, {"run": "a"})
    (tmp_path / ".state.safetensors.x1y2").write_bytes(b"")
    remove_checkpoint(file)
    remove_checkpoint(file)
    assert list(tmp_path.iterdir()) == []


def test_another_run_is_refused_with_what_differs(tmp_path):
    digests = [digest_arrays([np.arange(3), None]), digest_arrays([np.arange(4), None])]
    run = {
        "data": digests[0],
        "seed": 1,
        "model": {"layers": 2, "kinds": ["a", "b"]},
        "shape": (1,),
    }
    file = tmp_path / "state.safetensors"
    write_checkpoint(file, {}, {"run": run})
    saved = read_checkpoint(file)[1]["run"]
    check_same_run(file, saved, run)
    other = {"data": digests[1], "seed": 2, "model": {"layers": 3, "kinds": ["a"]}, "shape": (1,)}
    with pytest.raises(ValueError, match="belongs to a run with other data or arg") as error:
        check_same_run(file, saved, other)
    # The data may depend on the arguments, as the rows that are held out do on the seed.
    differing = "seed 1 there and 2 here, layers 2 there and 3 here, kinds; repeat those, or start"
    assert f"arguments: {differing} again with --force" in str(error.value)
    with pytest.raises(ValueError, match="arguments: data; repeat"):
        check_same_run(file, saved, {**run, "data": digests[1]})
    with pytest.raises(ValueError, match="arguments: data not given there and given here; "):
        check_same_run(file, {**saved, "data": None}, run)
    with pytest.raises(ValueError, match="arguments: seed 1 there and not given here; "):
        check_same_run(file, saved, {**run, "seed": None})
    with pytest.raises(ValueError, match="arguments: run; repeat"):
        check_same_run(file, "the text of another version", run)


def test_a_lack_of_space_is_noticed_before_the_training(tmp_path):
    file = tmp_path / "new" / "state.safetensors"
    check_space(file, 1000)
    with pytest.raises(ValueError, match=r"MB are free in .*; the checkpoint and the model need"):
        check_space(file, 10**18)
    assert not file.parent.exists()
