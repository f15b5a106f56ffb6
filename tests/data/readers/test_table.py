"""Tables are read cell by cell, and rows that cannot be used are named or left out."""

from __future__ import annotations

import pytest

from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.table import read_table

KINDS = {"note": "text", "price": "number"}
CSV = "note,price,stars\ngood,3,5\ntoo,many,fields,4\n\nbad,much,2\n,,1\ndull,2,\nwarm,,3\n"
JSON = (
    '{"note": "good", "price": 3, "stars": 5}\n'
    "[4]\n"
    "\n"
    '{"note": "bad", "price": "much", "stars": 2}\n'
    '{"note": null, "stars": 1}\n'
    '{"note": "dull", "price": 2}\n'
    '{"note": "warm", "price": null, "stars": 3}\n'
)


@pytest.mark.parametrize(
    ("name", "content", "reasons"),
    [
        (
            "rows.csv",
            CSV,
            [
                "row 2 (line 3) has 4 fields",
                "line 4 is blank",
                "row 4 (line 5): 'price' is 'much'",
                "row 5 (line 6): has no value in any of the columns",
                "row 6 (line 7): 'stars' is empty",
            ],
        ),
        (
            "rows.jsonl",
            JSON,
            [
                "line 2: expected a JSON object, got a list",
                "line 3 is blank",
                "line 4: 'price' is 'much'",
                "line 5: has no value in any of the columns",
                "line 6: 'stars' is empty",
            ],
        ),
    ],
)
def test_rows_that_cannot_be_used_are_left_out(tmp_path, name, content, reasons):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError):
        read_table(path)
    read = read_table(path, on_error="skip")
    assert read.usable(KINDS).texts("note") == ["good", "dull", "warm"]
    table = read.usable(KINDS, {"stars": "category"})
    assert (table.texts("note"), table.numbers("price")) == (["good", "warm"], [3, None])
    assert table.categories("stars") == ["5", "3"]
    assert list(table.row_numbers) == [1, 7]
    assert sorted(table.left_out) == [2, 3, 4, 5, 6]
    for number, reason in zip(sorted(table.left_out), reasons):
        found = table.left_out[number]
        assert found.startswith(f"{path}: {reason}"), found
    assert str(table).startswith(f"7 rows, left out 5 of them (first: {path}: {reasons[0]}")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("open.csv", 'note\ngood\n"never\nclosed\n', "lines 3 to 4: unclosed quotes: close them"),
        (
            "open.json",
            '[{"note": "good"},\n{"note" "bad"}]',
            "line 2: malformed JSON array (object 2: Expecting ':' delimiter): write one object",
        ),
    ],
)
def test_the_rows_before_one_that_cannot_be_parsed_are_read(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_text(content)
    table = read_table(path, on_error="skip")
    assert table.texts("note") == ["good"]
    assert table.left_out[2].startswith(f"{path}: {reason}")
    with pytest.raises(DataError, match="line"):
        read_table(path)


def test_a_table_without_a_row_that_can_be_used_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("note,price\na,b,c\n")
    with pytest.raises(DataError, match=r"no row can be used \(first: .*row 1 \(line 2\)"):
        read_table(path, on_error="skip")
    path.write_text("note,price\na,b\n")
    with pytest.raises(DataError, match="no row can be used"):
        read_table(path, on_error="skip").usable(KINDS)
    with pytest.raises(DataError, match="on_error='empty': expected one of stop, skip"):
        read_table(path, on_error="empty")
