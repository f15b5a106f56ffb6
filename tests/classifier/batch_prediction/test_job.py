"""Files are answered row by row, whatever the batches, shards, workers and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperagg.classifier.batch_prediction import job as job_module
from hyperagg.classifier.batch_prediction.encoding import OutputFormat
from hyperagg.classifier.batch_prediction.job import ReadOptions, predict_files
from hyperagg.classifier.batch_prediction.plan import Shard, plan_tasks
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions

TEXTS = ["a fine film", "", "a dull film", "caf\u00e9", "a film", "fine fine"] * 5
CRASHES = Path(__file__).parent / "crashes.py"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(job_module, "BATCH_ROWS", 4)


@pytest.fixture
def folder(tmp_path):
    """Three files of the same texts: JSON lines, CSV and Parquet."""
    inside = tmp_path / "in"
    inside.mkdir()
    rows = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    (inside / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = "".join(f"{row['id']},{row['text']}\n" for row in rows)
    (inside / "b.csv").write_text("id,text\n" + lines)
    pq.write_table(pa.Table.from_pylist(rows), inside / "c.parquet", row_group_size=7)
    return tmp_path


def run(
    predictor, sources, out=None, name="jsonl", *, shard=None, resume=False, force=False, **more
):
    """Answer files with the columns "id" and "text"."""
    workers, progress = more.pop("workers", 1), more.pop("progress", None)
    with_file = out is not None and out.suffix != "" and len(sources) > 1
    output = OutputFormat(name, predictor.classes_, keep={"id": "id"}, with_file=with_file)
    tasks = plan_tasks(
        list(map(str, sources)), out, format=name, shard=shard, job={}, resume=resume, force=force
    )
    return predict_files(
        predictor,
        tasks,
        read=ReadOptions(**more),
        answer=PredictionOptions(),
        output=output,
        workers=workers,
        progress=progress,
    )


def read_rows(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("name", ["a.jsonl", "b.csv", "c.parquet"])
@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_every_row_gets_one_answer_next_to_its_columns(predictor, folder, name, extension):
    out = folder / f"out.{extension}"
    counts = run(predictor, [folder / "in" / name], out, extension)
    rows = read_rows(out)
    assert [row["row"] for row in rows] == list(range(1, len(TEXTS) + 1))
    assert [int(row["id"]) for row in rows] == list(range(len(TEXTS)))
    assert [row["label"] for row in rows] == predictor.predict(TEXTS)
    probabilities = predictor.predict_proba(TEXTS).max(1)
    assert [row["score"] for row in rows] == pytest.approx(probabilities, abs=1e-6)
    assert (counts.read, counts.answered) == (len(TEXTS), len(TEXTS))
    [(number, place)] = counts.notes.values()
    assert number == 5 and place.endswith(f"of {folder / 'in' / name}")
    assert visible(folder) == ["in", out.name]


def test_a_folder_gets_one_output_per_file(predictor, folder):
    run(predictor, [folder / "in"], folder / "out")
    assert visible(folder / "out") == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_several_files_in_one_output_name_their_file(predictor, folder):
    sources = [folder / "in/a.jsonl", folder / "in/b.csv"]
    run(predictor, sources, folder / "out.jsonl")
    rows = read_rows(folder / "out.jsonl")
    assert [(row["file"], row["row"]) for row in rows] == [
        (str(source), i + 1) for source in sources for i in range(len(TEXTS))
    ]


def test_a_long_job_shows_its_speed(predictor, folder, monkeypatch, capsys):
    for name in ("SECONDS_BEFORE_PROGRESS", "SECONDS_BETWEEN_UPDATES"):
        monkeypatch.setattr(job_module, name, 0.0)
    run(predictor, [folder / "in"], folder / "out", progress=True)
    assert "90 documents," in capsys.readouterr().err


def test_rows_that_are_skipped_are_counted(predictor, folder):
    counts = run(predictor, [folder / "in/a.jsonl"], folder / "o.jsonl", on_error="skip")
    rows = read_rows(folder / "o.jsonl")
    assert [row["row"] for row in rows] == [i + 1 for i, text in enumerate(TEXTS) if text]
    assert (counts.read, counts.answered) == (30, 25)
    assert counts.summary().startswith("read 30 rows, answered 25, empty text: 5 (first: line 2")


def test_workers_and_this_process_write_the_same_bytes(predictor, folder):
    for workers in (1, 2):
        run(predictor, [folder / "in"], folder / f"out{workers}", "parquet", workers=workers)
    for path in (folder / "out1").iterdir():
        assert path.read_bytes() == (folder / "out2" / path.name).read_bytes()


def test_an_error_of_a_worker_is_raised_here(predictor, folder):
    (folder / "bad.jsonl").write_text('{"text": "a", "id": 1}\n' * 20 + "{")
    with pytest.raises(ValueError, match=r"bad.jsonl: line 21"):
        run(predictor, [folder / "bad.jsonl"], folder / "o.jsonl", on_error="stop", workers=2)
    assert not (folder / "o.jsonl").exists()


def test_shards_answer_every_row_of_a_file_once(predictor, folder, monkeypatch):
    monkeypatch.setattr("hyperagg.classifier.batch_prediction.plan._ROWS_PER_BLOCK", 3)
    source = folder / "in/a.jsonl"
    run(predictor, [source], folder / "whole.jsonl")
    parts, notes = [], 0
    for index in range(4):
        counts = run(predictor, [source], folder / "out.jsonl", shard=Shard(index, 4))
        parts += read_rows(folder / f"out-0000{index}-of-00004.jsonl")
        assert counts.read == counts.answered
        notes += sum(number for number, _ in counts.notes.values())
    assert sorted(parts, key=lambda row: row["row"]) == read_rows(folder / "whole.jsonl")
    assert notes == 5


def test_shards_answer_every_file_once(predictor, folder):
    for index in range(4):  # one more than there are files
        run(predictor, [folder / "in"], folder / "out", shard=Shard(index, 4))
    run(predictor, [folder / "in"], folder / "whole")
    for name in visible(folder / "whole"):
        assert (folder / "whole" / name).read_bytes() == (folder / "out" / name).read_bytes()
    assert len(visible(folder / "out")) == 3


def test_an_output_that_exists_is_refused_unless_it_is_replaced(predictor, folder):
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(ValueError, match=r"out.jsonl: exists; --force"):
        run(predictor, [source], out)
    assert out.read_text() == "mine"
    with pytest.raises(ValueError, match=r"out.jsonl: exists, and .out.jsonl.job, .* --force"):
        run(predictor, [source], out, resume=True)
    assert out.read_text() == "mine"
    run(predictor, [source], out, force=True)
    assert len(read_rows(out)) == len(TEXTS)


def test_the_input_is_never_replaced(predictor, folder):
    before = (folder / "in/a.jsonl").read_bytes()
    for out in (folder / "in", folder / "in/a.jsonl"):
        with pytest.raises(ValueError, match="is the input"):
            run(predictor, [folder / "in/a.jsonl"], out, force=True)
    assert (folder / "in/a.jsonl").read_bytes() == before


def test_an_output_that_the_next_call_would_read_is_refused(predictor, folder):
    inside = folder / "in"
    for out in (inside, inside / "out", inside / "out.jsonl"):
        with pytest.raises(ValueError, match=f"--out {out}.*is inside the input folder {inside}"):
            run(predictor, [inside], out)
    assert visible(inside) == ["a.jsonl", "b.csv", "c.parquet"]
    run(predictor, [inside], inside / "_out")
    run(predictor, [inside], inside / "_out", resume=True)
    assert visible(inside / "_out") == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_what_is_left_of_another_job_is_not_continued(predictor, folder):
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    source.write_text('{"id": 1, "text": "a film"}\n' * 10 + "{")
    with pytest.raises(ValueError, match="line 11"):
        run(predictor, [source], out, on_error="stop")
    with pytest.raises(ValueError, match="an interrupted job left it; --resume"):
        run(predictor, [source], out)
    source.write_text(source.read_text() + "\n")
    with pytest.raises(ValueError, match="by a job that differs in the input files; --force"):
        run(predictor, [source], out, resume=True)
    run(predictor, [source], out, force=True)
    assert visible(folder) == ["in", "out.jsonl"]


def test_a_complete_output_of_another_job_is_not_taken_for_this_one(predictor, folder):
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    run(predictor, [source], out)
    assert run(predictor, [source], out, resume=True).read == 0
    before = out.read_bytes()
    source.write_text('{"id": 1, "text": "a film"}\n')
    with pytest.raises(
        ValueError,
        match=r"out.jsonl: was .* in the input files; --force",
    ):
        run(predictor, [source], out, resume=True)
    assert out.read_bytes() == before
    run(predictor, [source], out, force=True)
    assert run(predictor, [source], out, resume=True).read == 0
    assert len(read_rows(out)) == 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_an_output_of_another_size_is_not_complete(predictor, folder, name):
    """One that was cut by a copy or a full disk used to be called complete."""
    source, out = folder / "in/a.jsonl", folder / name
    run(predictor, [source], out)
    assert run(predictor, [source], out, resume=True).read == 0
    whole = out.read_bytes()
    for changed in (b"", whole[:-20], whole + b"\n"):
        out.write_bytes(changed)
        message = rf"{name}: has {len(changed):,} bytes, and had {len(whole):,} .*; --force"
        with pytest.raises(ValueError, match=message):
            run(predictor, [source], out, resume=True)
        assert out.read_bytes() == changed
    run(predictor, [source], out, force=True)
    assert out.read_bytes() == whole


@pytest.mark.parametrize("line", ["{}", '{"offset": null, "state": {}}'])
def test_a_damaged_journal_is_refused_in_one_line(predictor, folder, line):
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    source.write_text('{"id": 1, "text": "a film"}\n' * 10 + "{")
    with pytest.raises(ValueError, match="line 11"):
        run(predictor, [source], out, on_error="stop")
    with (folder / "out.jsonl.journal").open("a") as journal:
        journal.write(line + "\n")
    with pytest.raises(ValueError, match=r"out.jsonl.journal: damaged; --force begins again"):
        run(predictor, [source], out, on_error="stop", resume=True)


@pytest.mark.parametrize(
    "record",
    [None, "", "{", '{"job": ', "[" * 100_000 + "\n", "{}\n", '{"job": null}\n', '{"job": {}}\n'],
)
def test_an_output_is_not_complete_without_a_record_of_its_job(predictor, folder, record):
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    run(predictor, [source], out)
    kept = folder / ".out.jsonl.job"
    kept.unlink() if record is None else kept.write_text(record)
    out.write_text("half of it")
    with pytest.raises(ValueError, match=r"out.jsonl: exists, .* is missing or damaged; --force"):
        run(predictor, [source], out, resume=True)
    run(predictor, [source], out, force=True)
    assert run(predictor, [source], out, resume=True).read == 0
    assert len(read_rows(out)) == len(TEXTS)


def test_a_full_disk_is_one_line_and_can_be_resumed(predictor, folder, monkeypatch):
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    run(predictor, [source], folder / "whole.jsonl")
    monkeypatch.setattr(
        "hyperagg.classifier.batch_prediction.output.SECONDS_BETWEEN_CHECKPOINTS", 0
    )
    resource = pytest.importorskip("resource")
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    try:
        with pytest.raises(OSError, match="--resume continues") as caught:
            run(predictor, [source], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert caught.value.filename == str(out)
    run(predictor, [source], out, resume=True)
    assert out.read_bytes() == (folder / "whole.jsonl").read_bytes()


def test_two_processes_do_not_write_to_one_output(predictor, folder):
    pytest.importorskip("fcntl")
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    [first] = plan_tasks([str(source)], out, format="jsonl", job={}, resume=False, force=False)
    first.output.open(b"")
    with pytest.raises(ValueError, match="another process writes to it"):
        run(predictor, [source], out, resume=True)
    first.output.close()


def test_an_output_that_another_process_completed_meanwhile_is_left_alone(
    predictor, folder, monkeypatch
):
    """The offset that was found no longer fits: zeros would fill the file up to it."""
    monkeypatch.setattr(
        "hyperagg.classifier.batch_prediction.output.SECONDS_BETWEEN_CHECKPOINTS", 0
    )
    source, out = folder / "in/a.jsonl", folder / "out.jsonl"
    source.write_text('{"id": 1, "text": "a film"}\n' * 10 + "{\n")
    with pytest.raises(ValueError, match="line 11"):
        run(predictor, [source], out, on_error="stop")
    [late] = plan_tasks([str(source)], out, format="jsonl", job={}, resume=True, force=False)
    run(predictor, [source], out, resume=True)
    with pytest.raises(ValueError, match="another process has written to it in the meantime"):
        late.output.open(b"")
    assert visible(folder) == ["in", "out.jsonl"]
    assert len(read_rows(out)) == 11


def test_killed_anywhere_and_resumed_it_writes_the_same_bytes(model, folder):
    """Every write, flush and rename of a job is where some process is killed."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    (folder / "in/c.parquet").unlink()
    done = subprocess.run(
        [sys.executable, CRASHES, model, folder / "in", folder / "work"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    for name in ("jsonl", "parquet"):
        assert results[name]["killed"] >= 20
        assert results[name]["different"] == []
