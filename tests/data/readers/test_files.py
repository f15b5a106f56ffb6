"""Reading files: every format gives the same rows, and every error is one line."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hyperagg.data import (
    FORMATS,
    DataError,
    read_chunks,
    read_corpus,
    read_file,
    read_texts,
    stream_rows,
)
from hyperagg.data.readers.columns import ColumnSpec
from hyperagg.data.readers.files import read_columns
from hyperagg.data.readers.stream import ReadOptions
from hyperagg.data.readers.table import read_table

GOOD = (["oil rose", "gold fell"], ["crude", "gold"])


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def refusal(path: Any, *args: str, **options: str) -> str:
    """The error message of reading `path`, which must be one line."""
    with pytest.raises(ValueError) as caught:
        read_file(path, *args, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


CONTENTS: dict[str, str | bytes] = {
    "a.csv": "text,label\noil rose,crude\ngold fell,gold\n",
    "bom.csv": "\ufefftext,label\noil rose,crude\ngold fell,gold\n",
    "crlf.csv": "text,label\r\noil rose,crude\r\ngold fell,gold\r\n",
    "open-end.csv": "id,label,text\n1,crude,oil rose\n2,gold,gold fell",
    "quoted.csv": '"text","label"\n"oil rose","crude"\n"gold fell","gold"\n',
    "a.tsv": "label\ttext\ncrude\toil rose\ngold\tgold fell\n",
    "a.jsonl": '{"text": "oil rose", "label": "crude"}\n{"label": "gold", "text": "gold fell"}\n',
    "crlf.ndjson": '{"text":"oil rose","label":"crude"}\r\n{"text":"gold fell","label":"gold"}\r\n',
    "a.txt": "__label__crude oil rose\n__label__gold gold fell\n",
    "crlf.ft": "__label__crude oil rose\r\n__label__gold\tgold fell\r\n",
    "label-last.ft": "oil rose __label__crude\n__label__gold gold fell\n",
    "a.parquet": parquet(text=GOOD[0], label=GOOD[1]),
    "dictionary.pq": parquet(
        text=pa.array(GOOD[0], pa.large_string()), label=pa.array(GOOD[1]).dictionary_encode()
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, CONTENTS[name])
    split = read_file(path)
    assert (split.texts, split.labels) == GOOD
    assert read_texts(path) == GOOD[0]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.parquet"])
def test_format_of_standard_input_follows_from_its_content(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CONTENTS[name]
    data = content.encode() if isinstance(content, str) else content
    for read in (read_file, read_texts):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        found = read("-")
        assert (found if isinstance(found, list) else found.texts) == GOOD[0]


def test_plain_lines_are_texts_even_with_commas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "oil rose, again\r\ngold fell\n"
    expected = ["oil rose, again", "gold fell"]
    assert read_texts(write(tmp_path, "a.txt", content)) == expected
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))
    assert read_texts("-") == expected


def test_named_columns_and_numbers_as_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'Review,Stars\n"one, two\nthree",5\n')
    split = read_file(path, "Review", "Stars")
    assert (split.texts, split.labels) == (["one, two\nthree"], ["5"])
    numbered: dict[str, str | bytes] = {
        "a.jsonl": '{"text": "a", "label": 3}\n{"text": "b", "label": true}\n',
        "a.parquet": parquet(text=["a", "b"], label=[3, 4]),
    }
    for name, content in numbered.items():
        assert read_file(write(tmp_path, name, content)).labels[0] == "3"


def test_line_separators_inside_json_strings_do_not_end_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a\u2028b\u0085c", "label": "x"}\n')
    assert read_file(path).texts == ["a\u2028b\u0085c"]


def test_ten_megabytes_on_one_line(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    path = write(tmp_path, "a.csv", "text,label\n" + "x" * 10_000_000 + ",a\n")
    assert len(read_file(path).texts[0]) == 10_000_000
    assert csv.field_size_limit() == limit


def test_format_takes_precedence_over_the_extension(tmp_path: Path) -> None:
    path = write(tmp_path, "table.dat", CONTENTS["a.tsv"])
    assert read_file(path, format="tsv").texts == GOOD[0]


# name, content, parts of the message
BAD = [
    ("a.csv", "", ["is empty"]),
    ("blank.csv", "\n \n", ["is empty"]),
    ("header.csv", "text,label\n", ["no rows"]),
    ("column.csv", "body,label\na,b\n", ["'text'", "'body', 'label'"]),
    ("column.jsonl", '{"text": "a", "topic": "b"}\n', ["'label'", "'text', 'topic'"]),
    ("twice.csv", "text,text,label\na,b,c\n", ["2 columns called 'text'"]),
    ("few.csv", 'text,label\n"a\nb",x\noops\n', ["row 2 (line 4)", "1 field instead of 2"]),
    ("many.csv", "text,label\na,b,c\n", ["row 1 (line 2)", "3 fields"]),
    ("many.tsv", "text\tlabel\na\tb\tc\n", ["row 1 (line 2)", "3 fields"]),
    ("quote.csv", 'text,label\na,b\n"never closed,c\nd,e\n', ["lines 3 to 4", "quotes"]),
    ("empty.csv", "text,label\na,b\n  ,c\n,d\n", ["row 2 (line 3)", "empty text", "2 rows of 3"]),
    ("label.csv", "text,label\na,\n", ["row 1 (line 2)", "no label"]),
    ("latin.csv", "text,label\ncaf\u00e9,b\n".encode("latin-1"), ["line 2", "0xe9"]),
    ("bom-latin.csv", b"\xef\xbb\xbftext,label\n\xe9,b\n", ["line 2", "0xe9", "UTF-8"]),
    ("utf16-le.csv", "text,label\na,b\n".encode("utf-16-le"), ["UTF-16"]),
    ("nul.csv", b"text,label\na\0,b\n", ["line 2", "NUL"]),
    ("gzip.csv", b"\x1f\x8b\x08rest", ["cannot be read"]),
    ("sheet.xlsx", b"PK\x03\x04rest", ["Excel", "CSV"]),
    ("image.txt", b"\x89PNG\r\n\x1a\nrest", ["PNG"]),
    ("actually.csv", parquet(text=["a"], label=["b"]), ["Parquet"]),
    ("short.parquet", parquet(text=["a"], label=["b"])[:-20], ["damaged"]),
    ("text.parquet", "text,label\na,b\n", ["not a Parquet file"]),
    ("number.parquet", parquet(text=[1], label=["b"]), ["'text'", "int64"]),
    ("column.parquet", parquet(body=["a"], label=["b"]), ["'text'", "'body', 'label'"]),
    ("null.parquet", parquet(text=["a", None], label=["b", "c"]), ["row 2", "empty text"]),
    ("nan.parquet", parquet(text=["a"], label=[float("nan")]), ["row 1", "no label"]),
    ("rows.parquet", parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())),
     ["no rows"]),
    ("bad.jsonl", '{"text": "a", "label": "b"}\n{"text": \n', ["line 2", "not JSON"]),
    ("array.json", '[{"text": "a", "label": "b"},\n]', ["line 2", "object 2", "malformed"]),
    ("deep.json", "[" * 100_000, ["line 1", "nested too deeply"]),
    ("deep.jsonl", '{"text": ' + "[" * 100_000, ["line 1", "not JSON"]),
    ("number.jsonl", '{"text": 7, "label": "b"}\n', ["line 1", "a number", "string"]),
    ("missing.jsonl", '{"text": "a", "label": "b"}\n{"label": "b"}\n', ["line 2", "'text'"]),
    ("unlabelled.jsonl", '{"text": "a", "label": null}\n', ["line 1", "no label"]),
    ("object.jsonl", '{"text": "a", "label": {"b": 1}}\n', ["line 1", "an object", "not a label"]),
    ("half.jsonl", '{"text": "\\ud800", "label": "b"}\n', ["line 1", "surrogate"]),
    ("nameless.txt", "__label__a x\n__label__ y\n", ["line 2", "no label after __label__"]),
    # It was one row, which had all labels.
    ("mac.txt", "__label__a x\r__label__b y\r__label__a z\n", ["line 1", "CR before __label__"]),
    ("plain.txt", "just\nlines\n", ["no line has a label", "__label__"]),
    ("wordless.txt", "__label__a x\n__label__a\n", ["line 2", "empty text"]),
    ("table.dat", "text,label\na,b\n", ["'.dat'", ".csv"]),
    ("table", "no separator here\n", ["format"]),
    ("line\nbreak\x1b[2J.csv", "", ["is empty"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "parts"), BAD, ids=[repr(name) for name, _, _ in BAD])
def test_bad_files_get_one_line(
    tmp_path: Path, name: str, content: str | bytes, parts: list[str]
) -> None:
    message = refusal(write(tmp_path, name, content))
    printed = name.replace("\n", " ").replace("\x1b", "\\x1b")
    for part in [printed, *parts]:
        assert part in message


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "absent.csv")
    assert "no file with a known extension" in refusal(tmp_path)
    assert "expected one of csv" in refusal(tmp_path / "absent.csv", format="xml")


def test_error_names_the_files_of_a_data_set_of_this_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERAGG_DATA", str(tmp_path))
    (tmp_path / "wires").mkdir()
    assert "data set" not in refusal(Path("wires"))  # incomplete
    for part in ("train", "test"):
        (tmp_path / "wires" / f"{part}.parquet").touch()
    assert str(tmp_path / "wires" / "train.parquet") in refusal(Path("wires"))
    assert "data set" not in refusal(Path("..") / "wires")


def test_errors_name_similar_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "review,stars\na,b\n")
    assert "did you mean 'review'" in refusal(path, "Review", "stars")
    assert "both" in refusal(path, "review", "review")


# Line breaks inside a text are kept; a text of white space counts as empty.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
texts = st.lists(
    st.text(characters, min_size=1).filter(lambda text: not text.isspace()), min_size=1
)
anything = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@anything
@given(texts)
@example(["0\r\n", "a\r\nb", "a\rb\n"])  # CRLF became LF
def test_any_text_survives_csv(tmp_path: Path, texts: list[str]) -> None:
    for name, delimiter in (("a.csv", ","), ("semicolons.csv", ";")):
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([("label", "text"), *(("x", text) for text in texts)])
        assert read_file(path, delimiter=delimiter).texts == texts


def test_blank_lines_are_not_rows_to_learn_from_and_are_texts_to_answer(tmp_path: Path) -> None:
    contents = {
        "a.csv": "text,label\n\noil rose,crude\n\ngold fell,gold\n\n",
        "a.jsonl": '{"text": "oil rose", "label": "crude"}\n\n'
        '{"label": "gold", "text": "gold fell"}',
        "a.ft": "__label__crude oil rose\r\n\r\n__label__gold gold fell\r\n",
    }
    for name, content in contents.items():
        path = write(tmp_path, name, content)
        split = read_file(path)
        assert (split.texts, split.labels) == GOOD
        with pytest.raises(ValueError, match="empty text"):
            read_texts(path)
        options = ReadOptions(on_error="skip")
        columns = read_columns(path, ColumnSpec("", labeled=False), options)
        assert columns.texts == GOOD[0] and not columns.left_out
        assert columns.blank_lines > 0
        corpus = read_corpus(path)
        assert {*corpus.train, *corpus.validation} == {*GOOD[0]}


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    names = ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.parquet"]
    paths = [write(tmp_path, name, CONTENTS[name]) for name in names]
    split = read_file(paths)
    assert (split.texts, split.labels) == (GOOD[0] * 5, GOOD[1] * 5)
    assert read_file(tmp_path) == read_file(str(tmp_path / "a.*")) == read_file(sorted(paths))
    several = write(tmp_path, "several.ft", "__label__x __label__y a b\n__label__x c d\n")
    assert read_file([several, paths[0]]).labels == [("x", "y"), ("x",), ("crude",), ("gold",)]
    bad = write(tmp_path, "bad.csv", "text,label\na,\n")
    assert "bad.csv: row 1 (line 2) has no label" in refusal([paths[0], bad])


@anything
@given(texts, st.booleans())
def test_any_text_survives_json_lines(tmp_path: Path, texts: list[str], escape: bool) -> None:
    records = (json.dumps({"text": t, "label": t}, ensure_ascii=escape) for t in texts)
    split = read_file(write(tmp_path, "a.jsonl", "\n".join(records)))
    assert split.texts == texts
    assert split.labels == [text.strip() for text in texts]


# Random bytes rarely pass the first check, so some begin like a valid file.
beginnings = st.sampled_from(
    [
        b"",
        b"text,label\n",
        b"text\tlabel\n",
        b'{"text": ',
        b'{"text": "a", "label": ["b"]}\n{"text": "a", "label": ',
        b"__label__",
        b"__label__a __label__b c\n",
        b"PAR1",
        b"\xef\xbb\xbf",
    ]
)


@settings(anything, max_examples=150)
@given(beginnings, st.binary() | st.text().map(str.encode), st.sampled_from([None, *FORMATS]))
def test_any_bytes_give_a_result_or_one_line(
    tmp_path: Path, beginning: bytes, rest: bytes, format: str | None
) -> None:
    path = write(tmp_path, "upload", beginning + rest)
    for read in (read_file, read_texts):
        try:
            read(path, format=format)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1


@anything
@given(st.data())
def test_damaged_parquet_gives_a_result_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    labels = data.draw(st.sampled_from([[1, 2] * 9, [["x", "y"], []] * 9]))
    content = bytearray(parquet(text=["a", "b"] * 9, label=labels))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for part in (content, content[:cut]):
        try:
            read_file(write(tmp_path, "a.parquet", bytes(part)))
        except ValueError as error:
            assert len(str(error).splitlines()) == 1


def test_labels_that_read_the_same_are_one_class(tmp_path: Path) -> None:
    """A blank after a label, and a column of integers that has a gap, used to make new classes."""
    assert read_file(write(tmp_path, "a.csv", "text,label\na,earn\nb,earn \n")).labels == [
        "earn",
        "earn",
    ]
    lines = [{"text": "a", "label": one} for one in (1, 1.0, "1", " 1", 1.5, True, "true")]
    records = "\n".join(map(json.dumps, lines))
    expected = ["1", "1", "1", "1", "1.5", "true", "true"]
    assert read_file(write(tmp_path, "a.jsonl", records)).labels == expected


def test_chunks_of_a_text_have_no_invalid_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, "torn.txt", b"a\ncaf\xe9 " + b"o" * (1 << 21) + b" \xe9\nb\0\n")
    with pytest.raises(DataError, match=r"line 2: invalid UTF-8 \(byte 0xe9\): "):
        list(read_chunks(path))
    notes: list[tuple[str, str]] = []
    chunks = list(read_chunks(path, lambda *note: notes.append(note)))
    assert len(chunks) > 1
    assert "".join(chunks) == path.read_bytes().decode("utf-8", "replace")
    assert notes == [("invalid UTF-8", "line 2"), ("NUL character", "line 3")]


@pytest.mark.parametrize("path", ["", 3, None])
def test_a_file_has_a_name(path: Any) -> None:
    readers: list[Any] = [read_file, read_texts, stream_rows, lambda p: list(read_chunks(p))]
    for read in [*readers, read_table]:
        with pytest.raises((TypeError, ValueError), match=rf"^(path|source)={path!r}: expected a "):
            read(path)
