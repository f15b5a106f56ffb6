"""Rows as a stream: every row of a file becomes one row of a batch, whatever is in it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.sources import expand_sources
from hyperagg.data.readers.stream import stream_rows
from tests.data.readers.mutated_files import COMPRESS, check_file


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(row_group_size: int | None = None, **columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=row_group_size)
    return sink.getvalue()


def read(path: object, **options: Any) -> tuple[list[str], dict[int, str]]:
    """The texts of all rows, and what is wrong with which of them."""
    texts: list[str] = []
    notes: dict[int, str] = {}
    for batch in stream_rows(path, **options):  # type: ignore[arg-type]
        assert list(batch.rows) == list(range(len(texts), len(texts) + len(batch)))
        assert batch.end_row == len(texts) + len(batch)
        texts += batch.texts
        notes |= {row: f"{note.place}: {note.problem}" for row, note in batch.notes.items()}
    return texts, notes


def refusal(path: object, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# name, content, texts, what is wrong with which row
ROWS: list[tuple[str, str | bytes, list[str], dict[int, str]]] = [
    # A quote in a TSV is a character: it does not swallow rows.
    ("stray.tsv", 'text\tlabel\n"a\tx\nb\ty\n5" c\tz\n', ['"a', "b", '5" c'], {}),
    ("blank.txt", "a\n\nb\n", ["a", "", "b"], {1: "line 2: empty text"}),
    ("blank.csv", "\ntext\na\n\nb\n", ["a", "", "b"], {1: "line 4: blank line"}),
    ("blank.tsv", "id\ttext\n1\ta\n\n2\tb\n", ["a", "", "b"], {1: "line 3: blank line"}),
    ("blank.ft", "__label__x a\n\n__label__y b\n", ["a", "", "b"], {1: "line 2: blank line"}),
    ("blank.jsonl", '{"text": "a"}\n\n{"text": "b"}', ["a", "", "b"], {1: "line 2: blank line"}),
    ("end.txt", "a\n\n\n", ["a", "", ""], {1: "line 2: empty text", 2: "line 3: empty text"}),
    ("no-end.txt", "a\nb", ["a", "b"], {}),
    ("empty.txt", "", [], {}),
    ("header.csv", "text,label\n", [], {}),
    ("null.jsonl", '{"text": null}\n{"text": "b"}', ["", "b"], {0: "line 1: empty text"}),
    ("null.parquet", parquet(text=["a", None, "b"]), ["a", "", "b"], {1: "row 2: empty text"}),
    ("dos.txt", "a\r\nb\r\n\x1a", ["a", "b"], {}),
    ("dos.csv", "text,label\r\na,x\r\n\x1a", ["a"], {}),
    ("sub.txt", "a\x1ab\nc\n", ["a\x1ab", "c"], {}),
    ("nul.txt", "a\0b\nc\n", ["a\0b", "c"], {0: "line 1: NUL character"}),
    ("nuls.txt", "\0\0a \0b\n" * 2 + "a\0 text\n" * 9, ["\0\0a \0b"] * 2 + ["a\0 text"] * 9,
     {i: f"line {i + 1}: NUL character" for i in range(11)}),
    ("nuls.csv", "text,label1\n" + "good films,pos\0\n" * 10, ["good films"] * 10, {}),
    ("nul.csv", "text,label\na\0b,x\n", ["a\0b"], {0: "line 2: NUL character"}),
    ("latin.txt", b"caf\xe9\nb\n", ["caf\ufffd", "b"], {0: "line 1: invalid UTF-8"}),
    ("latin.csv", b"text,label\ncaf\xe9,x\n", ["caf\ufffd"], {0: "line 2: invalid UTF-8"}),
    ("cut.txt", "caf\u20ac".encode()[:-1], ["caf\ufffd"], {0: "line 1: invalid UTF-8"}),
    ("latin.jsonl", b'{"text": "\xe9"}', ["\ufffd"], {0: "line 1: invalid UTF-8"}),
    ("half.jsonl", '{"text": "\\ud800a"}', ["\ufffda"], {0: "line 1: unpaired surrogate"}),
    ("half.txt", "\ud800".encode("utf-16", "surrogatepass"), ["\ufffd"],
     {0: "line 1: unpaired surrogate"}),
    ("ragged.csv", "text,id\na,1\noops\nb,2,3\nc,4\n", ["a", "", "", "c"],
     {1: "line 3: 1 field instead of 2", 2: "line 4: 3 fields instead of 2"}),
    ("quote.csv", 'text,id\n"a"b,1\nc,2\n', ["", "c"], {0: "line 2: malformed quotes"}),
    ("lines.csv", 'text,id\n"a\nb",1\noops\n', ["a\nb", ""], {1: "line 4: 1 field instead of 2"}),
    ("open.csv", 'text\na\n"b\nc\n', ["a", ""], {1: "lines 3 to 4: unclosed quotes"}),
    ("end.csv", 'text,id\na,1\n"b,2', ["a", ""], {1: "line 3: unclosed quotes"}),
    ("swallow.csv", 'text,id\n"a,1\nb,2\n5" c,3\nd,4\n', ["", "d"],
     {0: "lines 2 to 4: malformed quotes"}),
    ("cr.csv", "text,id\na\rb,1\nc,2\n", ["a\rb", "c"], {}),
    ("cr-quote.csv", 'text,id\n"a",1\r2\nc,2\n', ["", "c"],
     {0: "line 2: a carriage return outside quotes"}),
    ("mac.txt", "a\rb\rc", ["a", "b", "c"], {}),
    ("mac.csv", 'text,id\ra,1\r"b",2\r', ["a", "b"], {}),
    ("bom.txt", b"\xef\xbb\xbfa\nb\n", ["a", "b"], {}),
    ("utf16.csv", "text,id\na,1\n\u00e9\u4e2d,2\n".encode("utf-16"), ["a", "\u00e9\u4e2d"], {}),
    ("utf16-be.txt", "\ufeffa\nb".encode("utf-16-be"), ["a", "b"], {}),
    ("utf32.txt", "a\nb".encode("utf-32"), ["a", "b"], {}),
    ("array.json", ' [{"text": "a"},\n {"text": null}, 7,\n {"text": "b"}]\n', ["a", "", "", "b"],
     {1: "line 2: empty text", 2: "line 2: a number instead of a JSON object"}),
    ("empty.json", "[ ]", [], {}),
    ("bad.json", '[{"text": "a"},\n{"text" "b"}]', ["a", ""],
     {1: "line 2: malformed JSON array (object 2: Expecting ':' delimiter)"}),
    ("open.json", '[{"text": "a"},\n', ["a", ""],
     {1: "line 2: malformed JSON array (object 2: the file ends before the array does)"}),
    ("more.json", '[{"text": "a"}]\n{"text": "b"}', ["a", ""],
     {1: "line 2: malformed JSON array (object 2: text after the end of the array)"}),
    ("bad.jsonl", '{"text": "a"}\n{"text": \n[1]\n{"id": 1}\n{"text": 7}', ["a", "", "", "", ""],
     {1: "line 2: not JSON", 2: "line 3: a list instead of a JSON object",
      3: "line 4: no field 'text'", 4: "line 5: 'text' is a number, not a string"}),
    ("deep.jsonl", '{"text": "a"}\n' + "[" * 100_000, ["a", ""], {1: "line 2: not JSON"}),
    ("binary.parquet", parquet(text=[b"caf\xc3\xa9", b"\xe9"]), ["caf\u00e9", "\ufffd"],
     {1: "row 2: invalid UTF-8"}),
    ("dictionary.parquet", parquet(text=pa.array(["a", "b", "a"]).dictionary_encode()),
     ["a", "b", "a"], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "texts", "notes"), ROWS, ids=[name for name, *_ in ROWS]
)
def test_every_row_is_one_row(
    tmp_path: Path, name: str, content: str | bytes, texts: list[str], notes: dict[int, str]
) -> None:
    path = write(tmp_path, name, content)
    assert read(path) == (texts, notes)
    assert read(path, batch_rows=1) == (texts, notes)
    for start in range(len(texts) + 1):
        batches = list(stream_rows(path, start_row=start, batch_rows=2))
        assert [text for batch in batches for text in batch.texts] == texts[start:]
        assert [row for batch in batches for row in batch.rows] == list(range(start, len(texts)))
    skipped = list(stream_rows(path, on_error="skip"))
    good = [row for row in range(len(texts)) if row not in notes]
    assert [row for batch in skipped for row in batch.rows] == good
    assert [text for batch in skipped for text in batch.texts] == [texts[row] for row in good]
    if notes:
        assert notes[min(notes)] in refusal(path, on_error="stop")
    else:
        assert read(path, on_error="stop") == (texts, {})


def test_a_row_of_a_tsv_is_a_line_with_quoting_too(tmp_path: Path) -> None:
    path = write(tmp_path, "span.tsv", 'text\tid\n"a"\t1\n"b\nc"\t2\n5" d\t3\n')
    problem = "line 3: quotes that are not closed on their line"
    assert read(path, quoting=True) == (["a", "", 'c"', '5" d'], {1: problem})
    assert f"{problem}: read the file without quoting" in refusal(
        path, quoting=True, on_error="stop"
    )


def test_a_row_that_does_not_fit_into_memory_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperagg.data.readers.separated_rows.MAX_ROW_CHARS", 9)
    path = write(tmp_path, "open.csv", 'text\na\n"b\nccc\nddd\ne\n"f\ng"\n')
    found = ["a", "", "e", "f\ng"], {1: "lines 3 to 5: unclosed quotes"}
    assert read(path) == found


# name, content, options, parts of the message
REFUSED: list[tuple[str, str | bytes, dict[str, Any], list[str]]] = [
    ("semicolons.csv", "text;label\na;x\n", {}, ["';'", "--delimiter"]),
    ("pipes.csv", "id|body\n1|a\n", {"text": "body"}, ["'|'", "--delimiter"]),
    ("tabs.csv", "id\ttext\n1\ta\n", {}, [r"'\t'", "--delimiter"]),
    ("quoted.tsv", '"text"\t"id"\n"a"\t1\n', {}, ["--quoting"]),
    ("open-header.csv", '"text\na\n', {}, ["lines 1 to 2", "unclosed quotes", "first row"]),
    ("column.csv", "body,id\na,1\n", {}, ["'text'", "'body', 'id'"]),
    ("cp1251.csv", "\u0442\u0435\u043a\u0441\u0442,id\n\u0434\u0430,1\n".encode("cp1251"), {},
     ["'text'", "their names are not UTF-8: expected UTF-8, or UTF-16"]),
    ("column.jsonl", '{"body": "a"}\n', {}, ["'text'", "'body'"]),
    ("keep.csv", "text,id\na,1\n", {"keep": ["idd"]}, ["did you mean 'id'"]),
    ("keep.txt", "a\n", {"keep": ["id"]}, ["'id'"]),
    ("array.json", '[\n{"text" "a"}]', {}, ["line 2", "object 1", "one object per line"]),
    ("utf16.txt", "some text\n".encode("utf-16-le"), {},
     ["looks like UTF-16 without", "expected UTF-8, or UTF-16 or UTF-32 with a byte order mark"]),
    ("utf16-ru.csv", "\u0442\u0435\u043a\u0441\u0442,id\n\u0434\u0430,1\n".encode("utf-16-be"),
     {}, ["looks like UTF-16 without"]),
    ("utf16-zh.csv", ("text,id\n" + "\u4e00\u5929,1\n" * 9).encode("utf-16-le"), {},
     ["looks like UTF-16 without"]),
    ("utf32.csv", "text\na\n".encode("utf-32-le"), {}, ["UTF-32 without a byte order mark"]),
    ("noise.txt", bytes(20), {}, ["is a binary file"]),
    ("sheet.csv", b"PK\x03\x04rest", {}, ["Excel"]),
    ("plain.csv.gz", "text\na\n", {}, ["does not begin like a gzip file"]),
    ("cut.csv.gz", gzip.compress(b"text\na\n")[:-4], {}, ["cannot be read to its end"]),
    ("cut.parquet", parquet(text=["a"])[:-9], {}, ["damaged"]),
    ("numbers.parquet", parquet(text=[1]), {}, ["'text'", "int64"]),
    ("two.csv", "a,b\n", {"header": False}, ["without a header", "1 to 2 (--text"]),
    ("a.jsonl", "{}", {"delimiter": ","}, ["read as jsonl"]),
    ("a.dat", "text\n", {}, ["'.dat'"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "options", "parts"), REFUSED, ids=[name for name, *_ in REFUSED]
)
def test_refusals_name_the_place_and_the_remedy(
    tmp_path: Path,
    name: str,
    content: str | bytes,
    options: dict[str, Any],
    parts: list[str],
) -> None:
    message = refusal(write(tmp_path, name, content), **options)
    for part in [name, *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("extension", "compress"),
    [("bz2", bz2.compress), ("xz", lzma.compress), ("gz", gzip.compress)],
)
def test_no_row_of_a_damaged_further_stream_is_lost(
    tmp_path: Path, extension: str, compress: Any
) -> None:
    stream = compress(b"a fine film\n")
    path = write(tmp_path, f"films.txt.{extension}", stream + bytes(8) + stream)
    [batch] = stream_rows(path)
    assert batch.texts == ["a fine film"] * 2
    for damaged in (b"?" + stream[1:] + stream, stream[:-3]):
        path.write_bytes(stream + damaged)
        assert "cannot be read to its end" in refusal(path)


def test_the_remedy_for_delimiters_in_a_tsv_works(tmp_path: Path) -> None:
    path = write(tmp_path, "films.tsv", 'text\tid\n"a\tb"\t1\n')
    assert "line 2: 3 fields instead of 2" in (message := refusal(path, on_error="stop"))
    assert "--quoting" in message
    [batch] = stream_rows(path, quoting=True, on_error="stop")
    assert batch.texts == ["a\tb"]


def test_arguments_are_checked_at_the_call(tmp_path: Path) -> None:
    options: list[tuple[dict[str, Any], str]] = [
        ({"delimiter": "::"}, "delimiter='::': expected one character"),
        ({"on_error": "ignore"}, "on_error='ignore': expected one of empty, stop, skip"),
        ({"format": "xml"}, "format='xml': expected one of csv"),
        ({"batch_rows": 0}, "batch_rows=0: expected an integer >= 1"),
        ({"batch_rows": "x"}, "batch_rows='x': expected an integer >= 1"),
        ({"start_row": -1}, "start_row=-1: expected an integer >= 0"),
    ]
    for given_, message in options:
        with pytest.raises((TypeError, ValueError), match=message):
            stream_rows(tmp_path / "absent.csv", **given_)


def test_columns_are_kept_as_they_are(tmp_path: Path) -> None:
    nested = [{"text": "a", "tags": [1, 2]}, None]
    cases: list[tuple[str, str | bytes, dict[str, Any], dict[str, list[Any]]]] = [
        ("a.csv", "text,id\na,07\nb,\n", {}, {"id": ["07", ""]}),
        ("a.tsv", "text\tid\na\t07\n\n", {}, {"id": ["07", None]}),
        ("a.jsonl", '{"text": "a", "id": {"x": 7}}\n{"text": "b"}', {}, {"id": [{"x": 7}, None]}),
        ("b.jsonl", '{"text": "a", "id": {"x": 7}}\n{"text": "b"}', {}, {"id.x": [7, None]}),
        ("nan.jsonl", '{"text": "a", "id": NaN}', {}, {"id": [float("nan")]}),
        ("dots.jsonl", '{"text": "a", "id.x": 1, "id": {"x": 7}}', {}, {"id.x": [1]}),
        ("a.parquet", parquet(m=nested, id=[7, 8]), {"text": "m.text"},
         {"id": [7, 8], "m.tags": [[1, 2], None]}),
        ("a.ft", "__label__x __label__y a\nb\n", {}, {"label": [["x", "y"], []]}),
        ("none.csv", "a;7\nb;8\n", {"header": False, "delimiter": ";", "text": "1"},
         {"2": ["7", "8"]}),
    ]  # fmt: skip
    for name, content, options, kept in cases:
        path = write(tmp_path, name, content)
        [batch] = stream_rows(path, keep=list(kept), **options)
        assert str(batch.kept) == str(kept), name
        assert not batch.notes or batch.texts[-1] == "", name
        assert batch.texts[0] == "a", name


def test_one_column_needs_no_header(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a\n"b, c"\n')
    assert read(path, header=False)[0] == ["a", "b, c"]


def test_a_batch_ends_at_its_number_of_characters(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "abc\n" * 10)
    sizes = [len(batch) for batch in stream_rows(path, max_batch_bytes=7)]
    assert sizes == [3, 3, 3, 1]


def test_row_groups_before_the_start_are_not_read(tmp_path: Path) -> None:
    content = bytearray(parquet(row_group_size=2, text=["a", "b", "c", "d", "e"]))
    content[4:24] = b"\xff" * 20  # damage in the first row group
    path = write(tmp_path, "a.parquet", bytes(content))
    assert "damaged" in refusal(path)
    [batch] = stream_rows(path, start_row=3)
    assert (batch.texts, list(batch.rows)) == (["d", "e"], [3, 4])


@pytest.mark.parametrize("extension", ["", *COMPRESS])
def test_a_kept_field_may_be_rare(tmp_path: Path, extension: str) -> None:
    content = b'{"text": "a"}\n' * 10_000 + b'{"text": "a", "id": 7}\n'
    data = COMPRESS[extension](content) if extension else content
    path = write(tmp_path, f"a.jsonl{extension}", data)
    kept = [value for batch in stream_rows(path, keep=["id"]) for value in batch.kept["id"]]
    assert kept == [None] * 10_000 + [7]


@pytest.mark.parametrize("extension", ["", *COMPRESS])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a"])
def test_compressed_files(
    tmp_path: Path, name: str, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {i}" for i in range(20_000)]
    content = parquet(text=texts) if name == "a.parquet" else "\n".join(["text", *texts]).encode()
    data = COMPRESS[extension](content) if extension else content
    assert read(write(tmp_path, name + extension, data)) == (texts, {})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert read("-") == (texts, {})


def test_a_row_that_has_arrived_through_a_pipe_is_yielded(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {
        None: (["a\n", "b\nc", "\n\n"], [["a"], ["b"], ["c", ""]]),
        "csv": (["text,id\n", "a,1\n", '"b\n', 'c",2\n'], [["a"], ["b\nc"]]),
        "tsv": (["id\ttext\n1\ta\n", "2\tb\r\n"], [["a"], ["b"]]),
        "jsonl": (['{"text": "a"}\n', '{"text": "b"}\n'], [["a"], ["b"]]),
        "fasttext": (["__label__x a\n", "b\n"], [["a"], ["b"]]),
    }
    array = ['[{"text": "a"}, ', '{"text": "b"}, ', '{"text": "c"}]'], [["a"], ["b"], ["c"]]
    for format, (parts, expected) in [*cases.items(), ("jsonl", array)]:
        reading, writing = os.pipe()
        with open(reading, "rb") as buffer, open(writing, "wb", buffering=0) as pipe:  # noqa: PTH123
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
            batches = stream_rows("-", format=format)
            remaining = list(expected)
            for i, part in enumerate(parts):
                pipe.write(part.encode())
                whole = "".join(parts[: i + 1])
                if i < len(parts) - 1 and (whole in ("text,id\n",) or whole.endswith('"b\n')):
                    continue  # no row is complete
                if part == parts[-1]:
                    pipe.close()
                batch = next(batches)
                assert batch.texts == remaining.pop(0)
            assert not remaining
            assert not list(batches)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_may_arrive_alone(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    content = "text\na\n".encode(encoding)
    mark = content[: len("".encode(encoding)) or 3]
    reading, writing = os.pipe()
    with open(reading, "rb") as buffer, open(writing, "wb", buffering=0) as pipe:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))

        def rest() -> None:
            time.sleep(0.2)
            pipe.write(content[len(mark) :])
            pipe.close()

        pipe.write(mark)
        thread = threading.Thread(target=rest)
        thread.start()
        assert [text for batch in stream_rows("-", format="csv") for text in batch.texts] == ["a"]
        thread.join()


def test_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.csv", "a.jsonl.gz", "sub/c.txt", ".hidden.csv", "_SUCCESS", "notes.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "[odd].csv").touch()

    def names(*sources: str, **options: str) -> list[str]:
        found = expand_sources([str(tmp_path / one) for one in sources], **options)
        return [str(Path(one).relative_to(tmp_path)) for one in found]

    assert names("") == ["[odd].csv", "a.jsonl.gz", "b.csv", "sub/c.txt"]
    assert names("", format="csv") == ["[odd].csv", "a.jsonl.gz", "b.csv", "notes.md", "sub/c.txt"]
    assert names("b.csv", "*.csv") == ["b.csv", "[odd].csv"]
    assert names("**/*.txt") == ["sub/c.txt"]
    assert names("[odd].csv") == ["[odd].csv"]
    assert expand_sources(["-"]) == ["-"]
    (tmp_path / "empty").mkdir()
    for source, part in (
        ("absent.csv", "does not exist"),
        ("*.tsv", "matches no file"),
        ("empty", "no file with a known extension"),
    ):
        with pytest.raises(DataError, match=part):
            expand_sources([str(tmp_path / source)])
    for sources in ([], ["-", str(tmp_path / "b.csv")]):
        with pytest.raises(DataError, match="expected"):
            expand_sources(sources)


def test_damaged_files_keep_their_rows_or_are_refused(tmp_path: Path) -> None:
    ends = {check_file(seed, tmp_path) for seed in range(300)}
    assert ends == {"rows", "refused"}


line_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x1a\0\ufeff")
)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(line_texts, min_size=1),
    st.sampled_from(["lines", "tsv", "csv", "jsonl", "array", "parquet"]),
    st.sampled_from(["", *COMPRESS]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    encodings,
)
@example([" "], "tsv", "", "\n", "utf-8")  # in a file of one column a blank line is a blank text
def test_any_texts_survive_every_format(
    tmp_path: Path, texts: list[str], format: str, compression: str, end: str, encoding: str
) -> None:
    if format == "tsv":
        texts = [text.replace("\t", " ") for text in texts]
    if format == "parquet":
        content = parquet(text=texts)
    elif format == "csv":
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([["text"], *([text] for text in texts)])
        content = file.getvalue().encode(encoding)
    elif format == "array":
        content = json.dumps([{"text": text} for text in texts]).encode(encoding)
    elif format == "jsonl":
        lines = [json.dumps({"text": text}, ensure_ascii=False) + end for text in texts]
        content = "".join(lines).encode(encoding)
    else:
        head = ["text"] if format == "tsv" else []
        content = "".join(line + end for line in [*head, *texts]).encode(encoding)
    path = write(
        tmp_path, f"a{compression}", COMPRESS[compression](content) if compression else content
    )
    name = "jsonl" if format == "array" else format
    found, notes = read(path, format=name)
    assert found == texts
    odd = {row for row, text in enumerate(texts) if not text or text.isspace()}
    assert set(notes) == odd


@pytest.mark.parametrize("array", [False, True], ids=["lines", "array"])
def test_a_json_field_may_be_seen_first_after_many_rows(tmp_path: Path, array: bool) -> None:
    """A field that no object of the first megabyte has used to be refused."""
    rows: list[dict[str, Any]] = [{"text": "word " * 40} for _ in range(12_000)]
    rows[-1]["id"] = 7
    lines = [json.dumps(row) for row in rows]
    content = "[" + ",".join(lines) + "]" if array else "\n".join(lines)
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    ids = [one for batch in stream_rows(path, keep=["id"]) for one in batch.kept["id"]]
    assert ids == [None] * 11_999 + [7]
    with pytest.raises(DataError, match=r"a column 'di' \(--keep\); its columns are .*'id'"):
        list(stream_rows(path, keep=["di"]))


def test_a_missing_json_field_is_reported_after_a_bounded_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperagg.data.readers.json_rows._MAX_BLOCKS_HELD", 2)
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps({"text": "word " * 40}) + "\n") * 20_000 + "no JSON")
    with pytest.raises(DataError, match="does not have a column 'id'"):
        list(stream_rows(path, keep=["id"], on_error="stop"))
