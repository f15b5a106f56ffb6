"""Safetensors files: their layout, mapping them, and errors."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from hyperagg._common.atomic import atomic_write
from hyperagg._common.tensors import map_tensors, write_tensors

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4"]
ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=4, alphabet=st.characters(codec="utf-8")).filter(
        lambda name: name != "__metadata__"
    ),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=4,
)


def bits(array):
    return (
        array.shape,
        array.dtype.newbyteorder("="),
        array.astype(array.dtype.newbyteorder("<")).tobytes(),
    )


@given(arrays=ARRAYS)
def test_the_library_and_the_mapping_read_what_was_written(arrays, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "written.safetensors"
    file.unlink(missing_ok=True)
    write_tensors(file, arrays, {"format": "pt"})
    for found in (load_file(file), map_tensors(file)):
        assert {name: bits(array) for name, array in found.items()} == {
            name: bits(array) for name, array in arrays.items()
        }


@given(arrays=ARRAYS.filter(bool))
def test_files_of_the_library_can_be_mapped_too(arrays, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "library.safetensors"
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    file.unlink(missing_ok=True)
    save_file(native, file)
    assert {name: bits(array) for name, array in map_tensors(file).items()} == {
        name: bits(array) for name, array in native.items()
    }


def test_the_largest_tensor_of_the_widest_type_begins_at_a_cache_line(tmp_path):
    file = tmp_path / "a.safetensors"
    arrays = {"bias": np.ones(3, "f4"), "embedding": np.ones((5, 8), "f4"), "x": np.ones(99, "i1")}
    write_tensors(file, arrays, {})
    found = map_tensors(file)
    assert found["embedding"].ctypes.data % 64 == 0
    assert all(array.flags.aligned and not array.flags.writeable for array in found.values())


def test_a_mapping_stays_what_it_is_when_its_file_is_replaced_or_removed(tmp_path):
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"a": np.arange(5000)}, {})
    first = map_tensors(file)["a"]
    with atomic_write(file) as draft:
        write_tensors(draft, {"a": np.zeros(3)}, {})
    second = map_tensors(file)["a"]
    file.unlink()
    np.testing.assert_array_equal(first, np.arange(5000))
    np.testing.assert_array_equal(second, np.zeros(3))


def described(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


TWICE = b'{"a":{"dtype":"F32","shape":[3],"shape":[2],"data_offsets":[0,8]}}'

WRONG = {
    "empty": b"",
    "short": b"\x01",
    "length": (2**40).to_bytes(8, "little") + b"{}",
    "not JSON": (2).to_bytes(8, "little") + b"[}",
    "not an object": (2).to_bytes(8, "little") + b"[]",
    "nested": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "dtype": described(dtype="F3"),
    "dtype list": described(dtype=[]),
    "shape": described(shape=[3]),
    "negative": described(shape=[-2], data_offsets=[8, 0]),
    "bool": described(shape=[True, 2]),
    "huge": described(shape=[2**62, 2**62]),
    "offsets": described(data_offsets=[0]),
    "behind the end": described(data_offsets=[4, 12]),
    "gap": described(shape=[1], data_offsets=[4, 8]),
    "not all": described(shape=[1], data_offsets=[0, 4]),
    "list": [],
    "unknown key": described(x=[2]),
    "twice": len(TWICE).to_bytes(8, "little") + TWICE + bytes(8),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_not_valid_is_refused(tmp_path, case):
    content = WRONG[case]
    if not isinstance(content, bytes):
        text = json.dumps({"a": content}).encode()
        content = len(text).to_bytes(8, "little") + text + bytes(8)
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError):
        map_tensors(file)


def test_two_tensors_may_not_overlap(tmp_path):
    text = json.dumps({"a": described(), "b": described()}).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match="do not fill"):
        map_tensors(file)


def test_a_type_that_the_format_lacks_is_refused(tmp_path):
    with pytest.raises(TypeError, match="tensor a: complex128"):
        write_tensors(tmp_path / "a.safetensors", {"a": np.zeros(1, complex)}, {})


def test_a_full_disk_is_an_os_error_that_names_the_file(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("the platform has no device that is always full")
    file = tmp_path / "state.safetensors"
    with pytest.raises(OSError) as error, atomic_write(file) as draft:
        draft.unlink()
        draft.symlink_to("/dev/full")
        write_tensors(draft, {"a": np.zeros(1)}, {})
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(file))
    assert list(tmp_path.iterdir()) == []
