"""Files of saved models: JSON by schemas, headers of tensors, and nothing that is not a file."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hyperagg._common import saved_files
from hyperagg._common.saved_files import (
    check_dimensions,
    check_fields,
    check_finite,
    check_num_layers,
    check_tensors,
    choice,
    format_config,
    integer,
    list_of,
    object_of,
    optional,
    parse_json,
    raise_as_corrupt,
    read_config_if_any,
    read_json,
    read_text,
    real,
    text,
)
from hyperagg._common.tensors import TensorInfo, read_header, write_tensors


@pytest.mark.parametrize("content", ["NaN", "-Infinity", "1e400", "[1, Infinity]", "-1e999"])
def test_numbers_of_json_are_finite(content):
    with pytest.raises(ValueError, match="expected a finite number"):
        parse_json(f'{{"x": {content}}}')


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[]", "5", "null", '"x"'])
def test_json_is_an_object(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: (not valid JSON|expected a JSON object)"):
        read_json(tmp_path / "config.json")
    assert read_config_if_any(tmp_path) == {}


def test_only_regular_files_of_some_size_are_read(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_text(file, 5) == "12345"
    with pytest.raises(ValueError, match="expected at most 4 bytes, got 5"):
        read_text(file, 4)
    file.write_bytes(b"a\xff")
    with pytest.raises(ValueError, match=r"not UTF-8 \(at byte 1\)"):
        read_text(file)
    os.truncate(file, 2**40)  # takes no space
    with pytest.raises(ValueError, match="expected at most"):
        read_text(file)
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/zero", tmp_path):
        for read in (read_text, read_header):
            with pytest.raises((ValueError, IsADirectoryError), match=r"regular file|directory"):
                read(type(tmp_path)(name))


SCHEMA = {
    "n": integer(1, 5),
    "x": optional(real(0, 1)),
    "kind": choice("a", "b"),
    "names": list_of(text),
    "labels": object_of(integer(0, 9)),
}


def test_a_schema_accepts_what_is_in_its_bounds():
    check_fields({}, SCHEMA)
    content = {"n": 5, "x": None, "kind": "b", "names": ["", "y"], "labels": {"z": 9}, "else": {}}
    check_fields(content, SCHEMA)
    check_fields({"x": 1}, SCHEMA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"n": 6}, "n=6: expected an integer from 1 to 5"),
        ({"n": True}, "n=True: expected an integer"),
        ({"n": 1.0}, r"n=1\.0: expected an integer"),
        ({"n": None}, "n=None: expected an integer"),
        ({"n": 2**63}, "n=9223372036854775808: expected an integer"),
        ({"x": 10**400}, "x=1000.*: expected a finite number"),
        ({"x": "0.5"}, "x='0.5': expected a finite number"),
        ({"kind": ["a"]}, 'kind=.*: expected one of "a", "b"'),
        ({"names": "ab"}, "names='ab': expected a list"),
        ({"names": ["a", 5]}, r"names\[1\]=5: expected a string"),
        ({"labels": {"z": 10}}, r"labels\['z'\]=10: expected an integer from 0 to 9"),
        ({"labels": []}, r"labels=\[\]: expected an object"),
        ([1], r"\[1\]: expected an object"),
    ],
)
def test_a_schema_refuses_everything_else(content, message):
    with pytest.raises((TypeError, ValueError), match=message):
        check_fields(content, SCHEMA)


def test_the_header_is_checked_before_the_tensors_are_read(tmp_path):
    file = tmp_path / "model.safetensors"
    write_tensors(file, {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int8)}, {})
    found = read_header(file)
    shapes = {"a": ((2, 3), "float32"), "b": ((4,), "int8")}
    check_tensors(found, shapes)
    for wrong, message in (
        (shapes | {"c": ((1,), "floats")}, "tensor c is missing"),
        ({"a": shapes["a"]}, "tensor 'b' does not belong to this model"),
        (shapes | {"a": ((3, 2), "float32")}, r"a is \[2, 3\] of F32; .* requires \[3, 2\]"),
        (shapes | {"b": ((4,), "floats")}, r"tensor b is \[4\] of I8; .* of floats"),
    ):
        with pytest.raises(ValueError, match=message):
            check_tensors(found, wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_weights_are_finite_and_can_be_computed_with(value):
    array = np.zeros((300, 300), np.float32)
    check_finite("w", array)
    check_finite("empty", array[:0])
    array[299, 299] = value
    with pytest.raises(ValueError, match="tensor w holds"):
        check_finite("w", array)


def test_sizes_are_compared_with_the_header_of_the_weights():
    """Before a network of these sizes is made."""
    found = {f"layers.{i}.weight": TensorInfo("F32", (4, 7), 0) for i in range(2)}
    check_dimensions(found, {"rows": 4, "columns": 7})
    with pytest.raises(ValueError, match=r"^columns=8: no weight has so large a dimension"):
        check_dimensions(found, {"rows": 4, "columns": 8})
    with pytest.raises(ValueError, match=r"^rows=1: no weight"):
        check_dimensions({}, {"rows": 1})
    check_num_layers(found, r"layers\.(\d+)\.", "depth", 2)
    with pytest.raises(ValueError, match=r"^depth=1000000: the weights have 2"):
        check_num_layers(found, r"layers\.(\d+)\.", "depth", 10**6)


def test_configurations_are_small(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    file.write_text('{"x": ""}')
    os.truncate(file, 2**25 + 1)
    with pytest.raises(ValueError, match="expected at most 33,554,432 bytes"):
        read_json(file)
    monkeypatch.setattr(saved_files, "MAX_CONFIG_BYTES", 30)
    file.write_text(format_config({"format": "hyperagg.X"}))
    with pytest.raises(ValueError, match=r"config\.json would have 31 bytes; expected at most 30"):
        format_config({"format": "hyperagg.X.."})


def test_the_format_is_read_from_the_beginning_of_a_file(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(format_config({"format": "hyperagg.X", "classes": ["é"] * 10}))
    assert read_config_if_any(tmp_path) == {"format": "hyperagg.X"}
    file.write_text('{"model_type": "hyperagg", "format": "y"}')
    assert read_config_if_any(tmp_path) == {"model_type": "hyperagg", "format": "y"}
    file.write_text('{"x": [' + "{}," * 400_000 + '{}], "format": "y"}')
    assert read_config_if_any(tmp_path) == {}


def test_errors_name_the_file_once(tmp_path):
    with (
        pytest.raises(ValueError, match=r"^\S*x\.json: damaged \(\[\]: wrong\); save") as caught,
        raise_as_corrupt(tmp_path, "x.json"),
    ):
        raise ValueError(f"{tmp_path / 'x.json'}: []: wrong\nmore")
    assert str(caught.value).count("x.json") == 1
    with (
        pytest.raises(ValueError, match="nothing is missing"),
        raise_as_corrupt(tmp_path, "nothing"),
    ):
        (tmp_path / "nothing").read_bytes()
    with pytest.raises(ImportError), raise_as_corrupt(tmp_path, "x.json"):
        raise ImportError("an extra")
