"""Columns and labels of other libraries become Python's lists, strings and integers."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum, IntEnum

import numpy as np
import pytest

from hyperagg._common.columns import to_label, to_list


class Color(str, Enum):  # noqa: UP042 (a StrEnum is not the same)
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("red", "red"),
        (Color.RED, "red"),
        (np.str_("red"), "red"),
        (3, 3),
        (Level.HIGH, 3),
        (np.uint8(3), 3),
    ],
)
def test_a_label_becomes_a_plain_str_or_int(value, expected):
    found = to_label(value, "y[0]")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (True, r"got bool \(True\); convert it with str\(\) or int\(\)"),
        (np.True_, r"got bool.* \(.*True_?\); convert it with str\(\) or int\(\)"),
        (1.0, r"got float \(1.0\); convert whole numbers with int\(\)"),
        (np.float32(1), r"got float32 \(.*\); convert whole numbers with int\(\)"),
        (0.5, r"got float \(0.5\)$"),
        (float("nan"), r"got float \(nan\); leave out rows without a label"),
        (None, r"got NoneType \(None\); leave out rows without a label"),
        (Plain.ONE, r"got Plain \(<Plain.ONE: 1>\); use its .value"),
        (b"red", r"got bytes \(b'red'\); decode it"),
        (["red"], r"got list"),
    ],
)
def test_other_labels_are_refused_with_the_remedy(value, remedy):
    with pytest.raises(TypeError, match=r"^y\[0\]: expected a label \(str or int\), " + remedy):
        to_label(value, "y[0]")


def test_columns_of_torch_are_read():
    torch = pytest.importorskip("torch")
    assert to_list(torch.tensor([2, 0]), "y") == [2, 0]
    with pytest.raises(TypeError, match=r"y: expected one column, got a 2-D table"):
        to_list(torch.eye(2), "y")


def test_torch_is_not_imported_to_read_a_column():
    code = (
        "import sys\n"
        "from hyperagg._common.columns import to_list\n"
        "import numpy as np\n"
        "to_list(np.array(['a']), 'X'), to_list(iter('ab'), 'X')\n"
        "assert not {'torch', 'pandas', 'polars', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nested_columns_of_polars_are_lists():
    polars = pytest.importorskip("polars")
    assert to_list(polars.Series([["a"], ["b", "c"]]), "y") == [["a"], ["b", "c"]]


@pytest.mark.parametrize("library", ["pandas", "polars", "polars lazy", "pyarrow", "structured"])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_table_is_never_read_as_a_column(library, columns):
    data = {"text": ["a", "b"], "label": ["x", "y"]} if columns == 2 else {"text": ["a", "b"]}
    if library == "structured":
        table = np.array(list(zip(*data.values())), dtype=[(name, "U1") for name in data])
    else:
        module = pytest.importorskip(library.partition(" ")[0])
        table = module.table(data) if library == "pyarrow" else module.DataFrame(data)
        table = table.lazy() if library == "polars lazy" else table
    with pytest.raises(TypeError, match=r'X: expected one column, got .*; .* table\["text"\]$'):
        to_list(table, "X")


def test_a_column_vector_of_labels_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"shape \(2, 1\); .* as in y\.ravel\(\)$"):
        to_list(np.array([["a"], ["b"]]), "y")
