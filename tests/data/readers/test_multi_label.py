"""Files with any number of labels per text: which files these are, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperagg.data import Split, load_dataset, read_file, read_texts
from hyperagg.data.readers.errors import DataError

TEXTS = ["oil rose", "gold fell", "rain"]
LABELS = [("crude", "trade"), ("gold",), ()]

Content = str | bytes


def write(folder: Path, name: str, content: Content) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(labels: pa.Array, name: str = "labels", texts: list[str] = TEXTS) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts, name: labels}), sink)
    return sink.getvalue()


def json_lines(*labels: object, name: str = "label") -> str:
    return "".join(json.dumps({"text": t, name: ls}) + "\n" for t, ls in zip(TEXTS, labels))


LISTS = [["crude", "trade", "crude"], ["gold"], []]
CONTENTS: dict[str, Content] = {
    "a.jsonl": json_lines(*LISTS),
    "plural.jsonl": json_lines(*LISTS, name="labels"),
    "one-string.jsonl": json_lines(["crude", "trade"], "gold", []),
    "string-first.json": "".join(
        f'{{"label": {label}, "text": "{text}"}}\n'
        for label, text in zip(['["crude", "trade"]', '"gold"', "[]"], TEXTS)
    ),
    "a.parquet": parquet(pa.array(LISTS), "label"),
    "plural.parquet": parquet(pa.array(LISTS)),
    "large.parquet": parquet(pa.array(LISTS, pa.large_list(pa.large_string()))),
    "dictionary.parquet": parquet(
        pa.ListArray.from_arrays(
            [0, 2, 3, 3], pa.array(["crude", "trade", "gold"]).dictionary_encode()
        )
    ),
    "a.txt": "__label__crude __label__trade oil rose\n__label__gold gold fell\nrain\n",
    "anywhere.ft": "oil __label__crude rose __label__trade\r\n__label__gold\tgold fell\r\nrain",
}
with suppress(pa.ArrowNotImplementedError):  # pyarrow up to 22 cannot write them
    CONTENTS["view.parquet"] = parquet(pa.array(LISTS, pa.list_view(pa.string())))


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, CONTENTS[name])
    split = read_file(path)
    assert split.multi_label
    assert (split.texts, split.labels) == (TEXTS, LABELS)
    assert read_texts(path) == TEXTS


@pytest.mark.parametrize(
    ("name", "separator", "content"),
    [
        ("a.csv", "|", "text,label\noil rose,crude|trade|crude\ngold fell,gold\nrain,\n"),
        ("spaces.csv", "|", "text,labels\noil rose, crude | trade |\ngold fell,gold\nrain,  \n"),
        ("comma.csv", ",", 'text,label\noil rose,"crude, trade"\ngold fell,gold\nrain,""\n'),
        ("a.tsv", " ", "label\ttext\ncrude  trade\toil rose\ngold\tgold fell\n\train\n"),
        ("long.tsv", "::", "label\ttext\ncrude::trade\toil rose\ngold\tgold fell\n\train\n"),
    ],
)
def test_cells_are_split_at_a_separator(
    tmp_path: Path, name: str, separator: str, content: str
) -> None:
    split = read_file(write(tmp_path, name, content), label_separator=separator)
    assert (split.texts, split.labels) == (TEXTS, LABELS)


def test_a_separator_makes_tuples_even_if_no_row_has_more_than_one_label(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\na,x|y\nb,x\n")
    assert read_file(path).labels == ["x|y", "x"]
    assert read_file(path, label_separator=";").labels == [("x|y",), ("x",)]


def test_numbers_and_lists_of_fixed_size(tmp_path: Path) -> None:
    numbers = pa.array([[3, 5], [5, 5], [0, 3]], pa.list_(pa.int64(), 2))
    expected = [("3", "5"), ("5",), ("0", "3")]
    assert read_file(write(tmp_path, "a.parquet", parquet(numbers))).labels == expected
    lines = json_lines([3, 5], 5, [0, "3", True])
    assert read_file(write(tmp_path, "a.jsonl", lines)).labels == [
        *expected[:2],
        ("0", "3", "true"),
    ]


def test_a_column_of_empty_lists_is_multi_label(tmp_path: Path) -> None:
    for labels in (pa.array([[], [], []]), pa.array([[], [], []], pa.list_(pa.string()))):
        assert read_file(write(tmp_path, "a.parquet", parquet(labels))).labels == [()] * 3


def test_one_label_per_text_stays_a_string(tmp_path: Path) -> None:
    contents: dict[str, Content] = {
        "plural.jsonl": json_lines("a", "b", "c", name="labels"),
        "plural.parquet": parquet(pa.array(["a", "b", "c"])),
        "twice.txt": "__label__a __label__a oil rose\ngold __label__b fell\n__label__c rain\n",
    }
    for name, content in contents.items():
        split = read_file(write(tmp_path, name, content))
        assert not split.multi_label
        assert (split.texts, split.labels) == (TEXTS, ["a", "b", "c"])


def test_a_column_called_label_takes_precedence_over_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a", "labels": ["x"], "label": "y"}\n')
    assert read_file(path).labels == ["y"]
    assert read_file(path, label="labels").labels == [("x",)]


# name, content, arguments, parts of the message
BAD: list[tuple[str, Content, dict[str, str], list[str]]] = [
    ("null.jsonl", json_lines(["a"], None, []), {}, ["line 2 has no label (1 row of 3)", "[]"]),
    ("empty.jsonl", json_lines("", ["a"], " "), {}, ["line 1 has no label (2 rows of 3)"]),
    ("absent.jsonl", '{"text": "a", "label": []}\n{"text": "b"}\n', {}, ["line 2 has no label"]),
    ("inside.jsonl", json_lines(["a"], ["b", None]), {}, ["line 2, label 2", "'label'", "null"]),
    ("blank.jsonl", json_lines(["a", " "]), {}, ["line 1, label 2", "empty string"]),
    ("nan.jsonl", json_lines([float("nan")]), {}, ["line 1, label 1"]),
    ("nested.jsonl", json_lines([["a"]]), {}, ["line 1, label 1", "a list", "not a label"]),
    ("object.jsonl", json_lines([{"a": 1}]), {}, ["line 1, label 1", "an object", "not a label"]),
    ("half.jsonl", json_lines(["a", "\ud800"]), {}, ["line 1, label 2", "surrogate"]),
    ("text.jsonl", '{"text": "", "label": ["a"]}\n', {}, ["line 1", "empty text"]),
    ("null.parquet", parquet(pa.array([["a"], None, []])), {}, ["row 2 has no label", "[]"]),
    ("nulls.parquet", parquet(pa.array([None] * 3, pa.list_(pa.string()))), {},
     ["row 1 has no label (3 rows of 3)", "[]"]),
    ("inside.parquet", parquet(pa.array([["a"], ["b", None], []])), {}, ["row 2, label 2", "null"]),
    ("nested.parquet", parquet(pa.array([[["a"]]] * 3)), {}, ["'labels'", "list<", "not labels"]),
    ("objects.parquet", parquet(pa.array([[{"a": 1}]] * 3)), {}, ["'labels'", "not labels"]),
    ("column.csv", "text,labels\na,b c\n", {},
     ["'label'", "'text', 'labels'", "name the column of the labels (--label)"]),
    ("column.tsv", "text\ttopics\na\tb\n", {"label_separator": "|"}, ["'label'", "'topics'"]),
    ("text.csv", "text,label\n,a|b\n", {"label_separator": "|"}, ["row 1 (line 2)", "empty text"]),
    ("none.csv", "text,label\na,b\n", {"label_separator": ""}, ["label_separator=''", "non-empty"]),
    ("a.jsonl", CONTENTS["a.jsonl"], {"label_separator": "|"}, ["separator", "read as jsonl"]),
    ("a.parquet", CONTENTS["a.parquet"], {"label_separator": "|"}, ["separator", "parquet"]),
    ("a.txt", CONTENTS["a.txt"], {"label_separator": " "}, ["separator", "fasttext"]),
    ("none.txt", "oil rose\ngold fell\n", {}, ["no line has a label"]),
    ("nameless.txt", "__label__a __label__ x\n", {}, ["line 1", "no label after __label__"]),
    ("wordless.txt", "__label__a __label__b\nx\n", {}, ["line 1", "empty text"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "arguments", "parts"), BAD, ids=[name for name, _, _, _ in BAD]
)
def test_bad_files_get_one_line(
    tmp_path: Path, name: str, content: Content, arguments: dict[str, str], parts: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        read_file(write(tmp_path, name, content), **arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in [name, *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", ("b",)], r"labels\[1\] is a tuple and labels\[0\] is a str"),
        ([("b",), "a"], r"labels\[1\] is a str and labels\[0\] is a tuple"),
        ([("b",), ["a"]], r"labels\[1\] is a list"),
        ([("b",), ("a", "c", "a")], r"labels\[1\]=.*expected distinct labels"),
        ([("b",)], "got 1 labels for 2 texts"),
    ],
)
def test_labels_of_a_split_have_one_type(labels: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(["x", "y"], labels)  # type: ignore[arg-type]


def test_a_split_without_documents_is_not_multi_label() -> None:
    assert not Split([], []).multi_label


# Names that survive every format: fastText cuts at white space, a separator at itself.
names = st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="|"), min_size=1)
rows = st.lists(
    st.tuples(st.from_regex(r"[a-z]+( [a-z]+)*", fullmatch=True), st.lists(names, max_size=4)),
    min_size=1,
)
anything = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@anything
@given(rows, st.booleans())
def test_any_labels_survive_every_format(
    tmp_path: Path, rows: list[tuple[str, list[str]]], escape: bool
) -> None:
    texts, lists = [text for text, _ in rows], [labels for _, labels in rows]
    expected = [tuple(dict.fromkeys(labels)) for labels in lists]
    records = (json.dumps({"text": t, "label": ls}, ensure_ascii=escape) for t, ls in rows)
    contents: dict[str, Content] = {
        "a.jsonl": "\n".join(records),
        "a.parquet": parquet(pa.array(lists, pa.list_(pa.string())), texts=texts),
    }
    for name, content in contents.items():
        split = read_file(write(tmp_path, name, content))
        assert (split.texts, split.labels) == (texts, expected)
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([("text", "label"), *((t, "|".join(ls)) for t, ls in rows)])
        split = read_file(tmp_path / name, label_separator="|", quoting=True)
        assert (split.texts, split.labels) == (texts, expected)


@anything
@given(rows)
def test_any_labels_survive_fasttext(tmp_path: Path, rows: list[tuple[str, list[str]]]) -> None:
    lines = (" ".join([*(f"__label__{one}" for one in ls), t]) for t, ls in rows)
    path = write(tmp_path, "a.txt", "\n".join(lines))
    expected = [tuple(dict.fromkeys(labels)) for _, labels in rows]
    if not any(expected):
        with pytest.raises(DataError, match="no line has a label"):
            read_file(path)
        return
    if not all(expected) and max(map(len, expected)) == 1:
        with pytest.raises(DataError, match=r"line \d+ has no label .* no line has several"):
            read_file(path)
        return
    split = read_file(path)
    assert split.texts == [text for text, _ in rows]
    assert split.multi_label == any(len(labels) != 1 for labels in expected)
    assert expected == (split.labels if split.multi_label else [(one,) for one in split.labels])


def test_newswires_survive_every_format(tmp_path: Path) -> None:
    shared = os.environ.get("HYPERAGG_DATA")
    if not shared or not (Path(shared) / "reuters-modapte").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no reuters-modapte")
    wires = load_dataset("reuters-modapte").test
    rows = list(zip(wires.texts, wires.labels))
    lines = (json.dumps({"text": text, "labels": labels}) for text, labels in rows)
    assert read_file(write(tmp_path, "a.jsonl", "\n".join(lines))) == wires
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "topics"), *((t, " ".join(ls)) for t, ls in rows)])
    assert read_file(tmp_path / "a.csv", label="topics", label_separator=" ") == wires
    # fastText's lines have words and no line breaks.
    flat = [" ".join(text.split()) for text in wires.texts]
    words = [" ".join([*(f"__label__{one}" for one in ls), t]) for t, (_, ls) in zip(flat, rows)]
    assert read_file(write(tmp_path, "a.txt", "\n".join(words))) == Split(flat, wires.labels)
