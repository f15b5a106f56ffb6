"""hyperagg predict: many files, formats of output, pipes, and Ctrl-C."""

from __future__ import annotations

import gzip
import json
import select
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

COMMAND = [sys.executable, "-c", "from hyperagg.cli import main; main()", "predict"]
FILMS = ["a fine film", "a dull film"]


@pytest.fixture
def shards(tmp_path):
    """A folder of two files of two rows each, in two formats."""
    folder = tmp_path / "shards"
    (folder / "b").mkdir(parents=True)
    with gzip.open(folder / "a.csv.gz", "wt") as file:
        file.write("id,text\n1,a fine film\n2,a dull film\n")
    rows = [{"id": i, "text": text} for i, text in enumerate(FILMS)]
    (folder / "b/c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_labels_of_all_files_of_a_folder_and_their_counts(cli, model, shards):
    answer = cli("predict", model, shards)
    assert answer.code == 0
    assert answer.out == "good\nbad\ngood\nbad\n"
    assert answer.err == "read 4 rows, answered 4\n"
    assert cli("predict", model, f"{shards}/**/*.jsonl").out == "good\nbad\n"


def test_one_output_per_file_of_a_folder(cli, model, shards, tmp_path):
    out = tmp_path / "out"
    answer = cli("predict", model, shards, "--out", out, "--keep", "id=number")
    assert (answer.code, answer.out) == (0, "")
    rows = [json.loads(line) for line in (out / "a.jsonl").read_text().splitlines()]
    assert [(row["row"], row["number"], row["label"]) for row in rows] == [
        (1, "1", "good"),
        (2, "2", "bad"),
    ]
    assert (out / "b/c.jsonl").exists()
    again = cli("predict", model, shards, "--out", out, "--keep", "id=number", "--resume")
    assert again.err == "2 of 2 outputs were complete\nread 0 rows, answered 0\n"


def test_parquet_next_to_the_input(cli, model, shards, tmp_path):
    out = tmp_path / "out.parquet"
    options = ("--keep", "id", "--top-k", 1, "--probabilities")
    assert cli("predict", model, shards, "--out", out, *options).code == 0
    table = pq.read_table(out)
    assert table.column_names == ["file", "row", "id", "labels", "scores", "probabilities"]
    assert table["labels"].to_pylist() == [["good"], ["bad"]] * 2
    assert json.loads(table.schema.metadata[b"classes"]) == ["bad", "good"]


def test_a_threshold_leaves_rows_without_labels(cli, model):
    answer = cli("predict", model, "-", "--threshold", 1, stdin=b"a fine film\n")
    assert json.loads(answer.out) == {"row": 1, "labels": [], "scores": []}
    answer = cli("predict", model, "-", "--threshold", 1, "--output-format", "labels", stdin=b"a\n")
    assert answer.out == "\n"


def test_a_separator_of_labels_has_no_line_break(cli, model):
    answer = cli("predict", model, "-", "--label-separator", "\n", stdin=b"a\n")
    assert (answer.code, answer.out) == (2, "")
    assert "--label-separator '\\n': has a line break" in answer.err


def test_no_rows_no_answers(cli, model):
    answer = cli("predict", model, "-")
    assert (answer.code, answer.out, answer.err) == (0, "", "read 0 rows, answered 0\n")


def test_rows_that_cannot_be_read_are_answered_and_named(cli, model, tmp_path):
    file = tmp_path / "films.txt"
    file.write_bytes(b"a fine film\n\ncaf\xe9\na dull film\n")
    answer = cli("predict", model, file)
    assert len(answer.out.splitlines()) == 4
    assert answer.err.startswith("read 4 rows, answered 4, empty text: 1 (first: ")
    assert (
        f"invalid UTF-8: 1 (first: line 3 of {file}; the encoding may not be UTF-8)" in answer.err
    )
    file.write_bytes(b"caf\xe9\n" + b"a dull film\n" * 9)
    answer = cli("predict", model, file)
    assert answer.err == f"read 10 rows, answered 10, invalid UTF-8: 1 (first: line 1 of {file})\n"


def test_a_single_bad_line_of_a_stream_does_not_question_its_encoding(cli, model, tmp_path):
    file = tmp_path / "film.txt"
    file.write_bytes(b"a dull film\n" * 12 + b"caf\xe9\n")
    answer = cli("predict", model, file, "--stream")
    assert answer.err == f"read 1 row, answered 1, invalid UTF-8: 1 (first: line 13 of {file})\n"


@pytest.mark.parametrize("piped", [False, True])
def test_the_rows_before_an_unclosed_quote_are_answered(cli, model, tmp_path, piped):
    file = tmp_path / "films.csv"
    file.write_text('text,id\na dull film,1\na fine film,2\n"a,3\nb,4\n')
    source = ("-", "--text", "text", "--format", "csv") if piped else (file,)
    answer = cli("predict", model, *source, stdin=file.read_bytes())
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[:2] == ["bad", "good"] and answer.out.count("\n") == 3
    place = f"lines 4 to 5 of {'standard input' if piped else file}"
    assert answer.err == f"read 3 rows, answered 3, unclosed quotes: 1 (first: {place})\n"
    answer = cli("predict", model, *source, "--on-error", "skip", stdin=file.read_bytes())
    assert answer.out.splitlines() == ["bad", "good"]
    answer = cli("predict", model, *source, "--on-error", "stop", stdin=file.read_bytes())
    assert answer.code == 2 and "lines 4 to 5: unclosed quotes: close them" in answer.err


def test_a_line_is_answered_before_the_next_one_arrives(model):
    process = subprocess.Popen(
        [*COMMAND, model, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        for text, label in zip(FILMS * 2, [b"good\n", b"bad\n"] * 2):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 60)[0]
            assert process.stdout.readline() == label
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.stderr.read() == b"read 4 rows, answered 4\n"


def test_a_reader_that_leaves_ends_the_command_quietly(model):
    """With workers, of which none may stay behind."""
    lines = "".join(f"{text}\n" for text in FILMS * 20_000)
    with subprocess.Popen(
        [*COMMAND, model, "-", "--workers", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        try:
            process.stdin.write(lines.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.stderr.read() == b""  # at its end all processes have ended
        assert process.wait() == 1


def test_multimodal_options_are_refused_by_name(cli, model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "format": "hyperagg.MultimodalClassifier"})
    )
    for option, value in {
        "--workers": "2",
        "--engine": "ray",
    }.items():
        answer = cli("predict", tmp_path, "a.csv", option, value)
        assert answer.code == 2
        assert f"{option}: applies to a classifier of text alone" in answer.err


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("films.csv", "text,label\na fine film,good\n\n\nfine,bad\n", "row 4 (line 5)"),
        ("films.tsv", "text\tlabel\na fine film\tgood\n\n\nfine\tbad\n", "row 4 (line 5)"),
        ("films.txt", "__label__good a fine film\n\n\n__label__bad fine\n", "line 4"),
        (
            "films.jsonl",
            '{"text": "a fine film", "label": "good"}\n\n\n{"text": "fine", "label": "bad"}\n',
            "line 4",
        ),
    ],
)
def test_blank_lines_have_a_number_in_all_commands(cli, model, tmp_path, name, content, place):
    """`evaluate`, and `explain` with labels, counted only the rows that they used."""
    file, before = tmp_path / name, tmp_path / "before.csv"
    file.write_text(content)
    before.write_text("text,label\n\na dull film,bad\n")
    answer = cli("predict", model, file, "--top-k", 1)
    row = json.loads(answer.out.splitlines()[-1])
    assert row["row"] == 4 and row["labels"] == ["good"]
    answer = cli("evaluate", model, file)
    assert f"{file}: {place}: bad predicted as good: fine" in answer.out
    answer = cli("explain", model, file, "--label", "label", "--row", 4, "--json")
    explained = json.loads(answer.out)
    assert explained["row"] == f"{file}: {place}" and explained["label"] == "good"
    answer = cli("explain", model, before, file, "--label", "label", "--row", 6, "--json")
    assert json.loads(answer.out)["row"] == f"{file}: {place}"
    answer = cli("explain", model, file, "--label", "label", "--row", 3)
    assert answer.code == 2 and "--row 3: cannot be used and is left out" in answer.err
    answer = cli("explain", model, file, "--label", "label", "--row", 5)
    assert answer.code == 2 and "--row 5: there are 4 rows; expected 1 to 4" in answer.err


def test_rows_have_the_same_numbers_in_predict_and_explain(cli, model, tmp_path):
    """`predict` counted from 0, and `explain --row` from 1."""
    file = tmp_path / "films.csv"
    file.write_text("text\na fine film\n\na dull film\n")
    for on_error, expected in (("empty", [1, 2, 3]), ("skip", [1, 3])):
        skip = ("--on-error", on_error)
        answer = cli("predict", model, file, "--top-k", 1, *skip)
        rows = [json.loads(line) for line in answer.out.splitlines()]
        assert [row["row"] for row in rows] == expected
        for row in rows:
            answer = cli("explain", model, file, "--row", row["row"], "--json", *skip)
            explained = json.loads(answer.out)
            assert explained["row"] == f"{file}: row {row['row']}"
            assert explained["label"] == row["labels"][0]
    answer = cli("explain", model, file, "--row", 2, "--on-error", "skip")
    assert answer.code == 2 and "--row 2: cannot be used and is left out" in answer.err
    answer = cli("explain", model, file, "--on-error", "stop")
    assert answer.code == 2 and "line 3" in answer.err
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("text\na dull film\n")
    two.write_text("text\na fine film\n")
    answer = cli("explain", model, one, two, "--row", 2, "--json")
    assert json.loads(answer.out)["row"] == f"{two}: row 1"
