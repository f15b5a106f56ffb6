"""What the estimators take as a table, and how errors name its rows and columns."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.data.readers.table import read_table
from hyperagg.multimodal import MultimodalClassifier
from hyperagg.multimodal.columns import CategoryColumn

KINDS = {"a": "number", "b": "text"}
TABLE = {"a": [1.0, None, 3.0], "b": ["x y", "z", None], "unknown": [object()] * 3}
LABELS = ["p", "q", "p"]


@pytest.fixture(scope="module")
def model():
    return MultimodalClassifier(KINDS, d_model=4, epochs=1).fit(TABLE, LABELS)


def test_pandas(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": TABLE["a"], "b": TABLE["b"]})
    assert model.predict(frame) == model.predict(TABLE)
    nullable = frame.convert_dtypes()
    assert nullable["a"][1] is pandas.NA
    assert model.predict(nullable) == model.predict(TABLE)
    again = MultimodalClassifier(KINDS, d_model=4, epochs=1).fit(frame, pandas.Series(LABELS))
    np.testing.assert_array_equal(again.logits(frame), model.logits(TABLE))


def test_polars(model):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": TABLE["a"], "b": TABLE["b"]})
    assert model.predict(frame) == model.predict(TABLE)


def test_arrow(model):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": TABLE["a"], "b": TABLE["b"]})
    assert model.predict(table) == model.predict(TABLE)
    model.evaluate(table, arrow.chunked_array([LABELS]))


def test_a_file(model, tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,x y\n,z\n3,\n")
    assert model.predict(read_table(tmp_path / "rows.csv")) == model.predict(TABLE)
    (tmp_path / "rows.csv").write_text("a,b\n1,x y\n,\n3,\n")
    with pytest.raises(ValueError, match=r"rows\.csv: row 2 \(line 3\): has no value in any of"):
        model.predict(read_table(tmp_path / "rows.csv"))


def test_a_row_and_a_column_are_distinguished(model):
    assert model.predict({"a": 1, "b": "x y"}) == model.predict(TABLE)[0]
    assert model.predict({"a": np.float64(1)}) in model.classes_
    assert model.predict({"a": None, "b": "z"}) == model.predict(TABLE)[1]
    with pytest.raises(ValueError, match="either columns or the values of one row; 'b' is a value"):
        model.predict({"a": [1], "b": "x"})
    with pytest.raises(ValueError, match="row 0: has no value in any of the columns 'a', 'b'"):
        model.predict({"a": None, "b": None})
    with pytest.raises(TypeError, match="X: list: expected a mapping of columns, or a table"):
        model.predict(["x"])
    with pytest.raises(TypeError, match="X: ndarray: expected a mapping of columns"):
        model.predict(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"a": [1, None], "b": ["x", None]}, r"row 1: has no value in any .* \(1 of 2 rows\)"),
        ({"a": [1, "two"], "b": ["x", "y"]}, "row 1, column 'a': 'two': expected a finite number"),
        ({"a": [1, float("inf")], "b": ["x", "y"]}, "row 1, column 'a': inf: expected a finite"),
        ({"a": [1, 2], "b": ["x", 3]}, "row 1, column 'b': 3: expected a str or None"),
        ({"a": [1, 2], "b": [None, None]}, "X: column 'b' is empty in every row"),
        ({"a": [1, 2], "b": [None, " "]}, "X: column 'b' is empty in every row"),
        ({"a": [1, 2]}, "X: column 'b' is missing; the columns are 'a'"),
        ({"a": [1, 2], "b": ["x"]}, "columns of equal length; 'a' has 2, 'b' has 1"),
        ({"a": [], "b": []}, "X: has no rows"),
    ],
)
def test_cells_are_checked(table, error):
    targets = ["p", "q"][: len(table["a"])]
    with pytest.raises((ValueError, TypeError), match=error):
        MultimodalClassifier(KINDS).fit(table, targets)


@pytest.mark.parametrize(
    ("kind", "cell", "error"),
    [
        ("image", np.zeros((4, 4)), "row 1, column 'c': an image of type float64: expected uint8"),
        ("image", np.zeros((4, 4, 2), np.uint8), r"an image of shape \(4, 4, 2\): expected \(heig"),
        ("image", "nowhere.png", "row 1, column 'c': nowhere.png"),
        ("audio", np.zeros((4, 2)), r"row 1, column 'c': an audio clip of shape \(4, 2\)"),
        ("audio", np.zeros(4, np.int64), "an audio clip of type int64: expected int16, or floats"),
        ("audio", np.array([0.0, np.nan]), "samples that are not finite"),
        ("audio", "nowhere.wav", "row 1, column 'c': nowhere.wav"),
    ],
)
def test_images_and_audio_are_checked(kind, cell, error):
    good = np.zeros((4, 4), np.uint8) if kind == "image" else np.zeros(100)
    with pytest.raises((ValueError, TypeError), match=error):
        MultimodalClassifier({"c": kind}).fit({"c": [good, cell]}, ["p", "q"])


@pytest.mark.parametrize(
    ("kind", "good", "cell", "error"),
    [
        ("image", (8, 8), (8, 8, 4), r"row 0, column 'c': an image of shape \(8, 8, 4\): expected"),
        ("image", (8, 8), (8, 8, 2), r"row 0, column 'c': an image of shape \(8, 8, 2\): expected"),
        ("audio", (400,), (5, 2), r"row 0, column 'c': an audio clip of shape \(5, 2\): expected"),
    ],
)
def test_a_cell_with_other_channels_is_not_a_column(kind, good, cell, error):
    dtype = np.uint8 if kind == "image" else np.float32
    model = MultimodalClassifier({"c": kind}, d_model=4, hidden_dim=4, epochs=1)
    column = np.zeros((4, *good), dtype)
    model.fit({"c": column}, ["p", "q"] * 2)
    assert len(model.predict({"c": column})) == 4
    assert isinstance(model.predict({"c": column[0]}), str)
    with pytest.raises(ValueError, match=error):
        model.predict({"c": np.zeros(cell, dtype)})


@pytest.mark.parametrize("cell", [object(), b"x", {"x": 1}, ["x"], np.zeros(2)])
def test_categories_are_strings_numbers_or_booleans(cell):
    columns = {"c": ["x", cell]}
    with pytest.raises(TypeError, match=r"row 1, column 'c': .*: expected a str, a number"):
        MultimodalClassifier({"c": "category"}).fit(columns, ["p", "q"])


def test_integers_and_equal_floats_are_one_category():
    column = CategoryColumn.fit([1, 2.5, True, "x", None], "row {}".format)
    assert column.categories == ("1", "2.5", "True", "x")
    cells = [1.0, np.float32(1), np.int64(1), "1", 2.5, 2, float("nan")]
    assert column.encode(cells, "row {}".format).values.tolist() == [0, 0, 0, 0, 1, -1, -1]
    assert column.token_names(1.0, 1) == ["1"]
