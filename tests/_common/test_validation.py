"""Arguments that take numbers or names."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg._common.validation import (
    check_bool,
    check_choice,
    check_integer,
    check_output_folder,
    check_real,
)


def test_numpy_numbers_are_numbers():
    assert check_integer("n", np.int32(3), 1) == 3
    assert type(check_integer("n", np.int64(3), 1)) is int
    assert check_real("x", np.float32(0.5), 0) == 0.5
    assert type(check_real("x", 1)) is float
    assert check_bool("b", np.True_) is True


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError), ("1", TypeError)]
)
def test_integers(value, error):
    with pytest.raises(error, match=r"^n=.*: expected an integer >= 1$"):
        check_integer("n", value, 1)
    with pytest.raises(error, match=r"^n=.*: expected an integer from 3 to 5$"):
        check_integer("n", value, 3, 5)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-0.1, ValueError),
        (1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_real_numbers(value, error):
    with pytest.raises(error, match=r"^x=.*: expected a finite number >= 0 and < 1$"):
        check_real("x", value, 0, 1, open_maximum=True)


def test_numbers_that_no_array_can_hold_are_out_of_range():
    for value in (2**63, 10**400, -(2**63) - 1):
        with pytest.raises(ValueError, match=r"^n=.*: expected an integer"):
            check_integer("n", value)
    with pytest.raises(ValueError, match=r"^n=9.*: expected an integer >= 1 and < 2\^63$"):
        check_integer("n", 2**63, 1)
    assert check_integer("n", 2**63 - 1, 1) == 2**63 - 1
    with pytest.raises(ValueError, match=r"^x=1.*: expected a finite number >= 0$"):
        check_real("x", 10**400, 0)


def test_open_and_closed_bounds():
    assert check_real("x", 0, 0) == check_real("x", 0, -1, 0) == 0
    with pytest.raises(ValueError, match="x=0: expected a finite number > 0"):
        check_real("x", 0, 0, open_minimum=True)


def test_choices_and_truth_values():
    assert check_choice("fusion", "sum", ["sum"]) == "sum"
    for value in ("x", None, ["sum"]):
        with pytest.raises(ValueError, match=r'fusion=.*: expected one of "sum", "attention"'):
            check_choice("fusion", value, ["sum", "attention"])
    with pytest.raises(TypeError, match="b=1: expected True or False"):
        check_bool("b", 1)


def test_a_snapshot_of_the_hub_is_not_written_to(tmp_path):
    """Its files are links to content that other revisions share."""
    (tmp_path / "blobs").mkdir()
    snapshot = tmp_path / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is a snapshot in the cache .*; save to another folder$"):
        check_output_folder(snapshot)
    assert check_output_folder(str(tmp_path / "model")) == tmp_path / "model"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: is a file; expected the name of a folder"):
        check_output_folder(tmp_path / "file")
