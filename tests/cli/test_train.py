"""hyperagg train, evaluate and predict on 1,000 newswires."""

from __future__ import annotations

import errno
import gzip
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hyperagg

# Small and long enough to be interrupted; the same for every run that is compared.
ARGUMENTS = ("--d-model", 16, "--epochs", 30, "--seed", 5)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(fresh, table, tmp_path_factory):
    """A model that was trained without interruption, in a process of its own."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    answer = fresh("train", table, *ARGUMENTS, "--out", folder, PYTHONHASHSEED="1")
    assert answer.code == 0, answer.err
    assert "1,000 rows" in answer.err
    assert "validation accuracy" in answer.err
    assert answer.out == ""
    return folder


def test_a_model_folder_has_five_files_and_no_others(whole):
    names = sorted(path.name for path in whole.iterdir())
    assert names == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "training.safetensors",
    ]
    config = json.loads((whole / "config.json").read_text("utf-8"))
    assert config["format"] == "hyperagg.TextClassifier"
    assert (config["d_model"], config["epochs"]) == (16, 30)
    assert {"acq", "earn"} <= set(config["classes"])
    assert "TextClassifier.from_pretrained" in (whole / "README.md").read_text("utf-8")


def test_predict_in_a_fresh_process_gives_the_labels_of_memory(fresh, table, rows, whole):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    classifier = hyperagg.TextClassifier(d_model=16, epochs=30).fit(texts, labels, seed=5)
    answer = fresh("predict", whole, table)
    assert answer.code == 0
    assert answer.out.splitlines() == classifier.predict(texts)
    assert answer.err == "read 1,000 rows, answered 1,000\n"
    # It has learned something; the most frequent topic has half of the wires.
    right = sum(a == b for a, b in zip(answer.out.splitlines(), labels, strict=True))
    assert right > 0.9 * len(rows)


def write_csv(path, rows, separator=","):
    quoted = ['"' + text.replace('"', '""') + '"' for text, _ in rows]
    lines = [separator.join(pair) for pair in zip(quoted, [label for _, label in rows])]
    path.write_text("\n".join([separator.join(("text", "label")), *lines]), "utf-8")


def write_tsv(path, rows):
    lines = [f"{text}\t{label}" for text, label in rows]
    path.write_text("\n".join(["text\tlabel", *lines]))


def write_json_lines(path, rows):
    lines = [json.dumps({"label": label, "text": text}) for text, label in rows]
    path.write_text("\n".join(lines), "utf-8")


def write_parquet(path, rows):
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    pq.write_table(pa.table(columns), path)


def write_fasttext(path, rows):
    lines = [f"__label__{label} {' '.join(text.split())}" for text, label in rows]
    path.write_text("\n".join(lines), "utf-8")


FORMATS = {
    "csv": write_csv,
    "tsv": write_tsv,
    "jsonl": write_json_lines,
    "parquet": write_parquet,
    "txt": write_fasttext,
}


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("piped", [False, True], ids=["file", "standard input"])
def test_every_format_gives_the_same_model(cli, rows, whole, tmp_path, extension, piped):
    path = tmp_path / f"news.{extension}"
    FORMATS[extension](path, rows)
    stdin = path.read_bytes() if piped else b""
    file = "-" if piped else path

    answer = cli("train", file, *ARGUMENTS, "--out", tmp_path / "model", stdin=stdin)
    assert answer.code == 0, answer.err
    assert weights(tmp_path / "model") == weights(whole)

    answer = cli("evaluate", tmp_path / "model", file, "--json", stdin=stdin)
    scores = json.loads(answer.out)
    assert scores["rows"] == len(rows)
    assert scores["accuracy"] > 0.9

    labels = cli("predict", tmp_path / "model", file, stdin=stdin)
    assert labels.code == 0
    right = sum(a == b for a, (_, b) in zip(labels.out.splitlines(), rows, strict=True))
    assert right / len(rows) == pytest.approx(scores["accuracy"])


def test_columns_by_name_and_labels_that_are_numbers(cli, tmp_path):
    table = tmp_path / "films.csv"
    films = ["1,a dull film", "5,a fine film"] * 20
    table.write_text("\n".join(["stars,review", *films]))
    names = ("--text", "review", "--label", "stars")
    assert cli("train", table, *names, "--out", tmp_path / "m", "--d-model", 4).code == 0
    assert "100.00 %" in cli("evaluate", tmp_path / "m", table, *names).out
    answer = cli("predict", tmp_path / "m", "-", stdin=b"a fine film\na dull film\n")
    assert answer.out == "5\n1\n"


def test_a_seed_of_its_own_gives_other_weights(cli, table, whole, tmp_path):
    other = (*ARGUMENTS[:-1], 6)
    assert cli("train", table, *other, "--out", tmp_path / "model").code == 0
    assert weights(tmp_path / "model") != weights(whole)


def test_probabilities_are_json_lines_that_agree_with_the_labels(cli, table, whole):
    labels = cli("predict", whole, table).out.splitlines()
    answer = cli("predict", whole, table, "--probabilities")
    for line, label in zip(answer.out.splitlines(), labels, strict=True):
        row = json.loads(line)
        assert row["label"] == label == max(row["probabilities"], key=row["probabilities"].get)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_the_most_probable_labels_above_a_threshold_are_json_lines(cli, table, whole):
    labels = cli("predict", whole, table).out.splitlines()
    answer = cli("predict", whole, table, "--top-k", 2, "--threshold", 0.3)
    for line, label in zip(answer.out.splitlines(), labels, strict=True):
        row = json.loads(line)
        assert len(row["labels"]) == len(row["scores"]) <= 2
        assert all(score > 0.3 for score in row["scores"])
        assert not row["labels"] or row["labels"][0] == label


def test_help_states_the_defaults_of_the_estimator(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = cli("train", "--help").out
    parameters = inspect.signature(hyperagg.TextClassifier).parameters
    for name in ("d_model", "max_words", "max_ngrams", "min_count"):
        line = next(line for line in shown.splitlines() if f"--{name.replace('_', '-')}" in line)
        assert f"(default: {parameters[name].default:,}" in line


def test_training_again_takes_the_place_of_the_model(cli, table, whole, tmp_path):
    out = tmp_path / "model"
    assert cli("train", table, "--epochs", 1, "--d-model", 4, "--out", out).code == 0
    assert cli("train", table, *ARGUMENTS, "--out", out, "--force").code == 0
    assert weights(out) == weights(whole)
    assert len(list(out.iterdir())) == 5


# A run that keeps its state after every chunk and leaves time to be interrupted.
SLOW = """
import time
from hyperagg.classifier.training import loop

write = loop.write_checkpoint
def write_and_wait(*arguments):
    write(*arguments)
    time.sleep(0.3)
loop.write_checkpoint = write_and_wait
loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
"""
# A run that is killed with its third checkpoint half written.
KILLED_WRITING = """
import os, signal
from hyperagg._common import checkpoint
from hyperagg.classifier.training import loop

write, calls = checkpoint.write_tensors, []
def write_half(path, arrays, metadata):
    write(path, arrays, metadata)
    calls.append(path)
    if len(calls) == 3:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.write_tensors = write_half
loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
"""
# A run that is killed in its third epoch, when nothing was kept so far.
KILLED_EARLY = """
import os, signal
from hyperagg.classifier.training import loop

class Run(loop._Run):
    def end_epoch(self):
        super().end_epoch()
        if self.epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)
loop._Run = Run
"""


def start(driver, table, out):
    code = f"{driver}\nfrom hyperagg.cli import main\nmain()"
    arguments = ["train", table, *ARGUMENTS, "--out", out]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "2"},
    )


def interrupt(driver, table, out, number):
    """Starts a run, and sends it the signal once its state was kept."""
    process = start(driver, table, out)
    until = time.monotonic() + 60
    while not (out / "checkpoint.safetensors").exists() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


def test_killed_and_resumed_is_as_if_not_killed(fresh, table, whole, tmp_path):
    out = tmp_path / "model"
    code, err = interrupt(SLOW, table, out, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert err == ""
    assert [path.name for path in out.iterdir()] == ["checkpoint.safetensors"]
    answer = fresh("train", table, *ARGUMENTS, "--out", out, "--resume", PYTHONHASHSEED="3")
    assert answer.code == 0, answer.err
    assert weights(out) == weights(whole)
    assert len(list(out.iterdir())) == 5


@pytest.mark.parametrize("driver", [KILLED_WRITING, KILLED_EARLY], ids=["writing", "early"])
def test_killed_at_a_bad_moment(cli, table, whole, tmp_path, driver):
    out = tmp_path / "model"
    process = start(driver, table, out)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (out / "checkpoint.safetensors").exists() == (driver is KILLED_WRITING)
    answer = cli("train", table, *ARGUMENTS, "--out", out, "--resume")
    assert answer.code == 0, answer.err
    assert ("from the beginning" in answer.err) == (driver is KILLED_EARLY)
    assert weights(out) == weights(whole)
    assert len(list(out.iterdir())) == 5


def test_ctrl_c_says_how_to_go_on(cli, table, whole, tmp_path):
    out = tmp_path / "model"
    code, err = interrupt(SLOW, table, out, signal.SIGINT)
    assert code == 130
    # Besides the line about kernels that are compiled for the first time.
    assert (
        err.splitlines()[-1] + "\n"
        == f"interrupted; the state is in {out}: repeat the command with --resume to continue\n"
    )
    # The rows may come by another way; what counts is what they are.
    stdin = table.read_bytes()
    answer = cli("train", "-", *ARGUMENTS, "--out", out, "--resume", stdin=stdin)
    assert answer.code == 0, answer.err
    assert weights(out) == weights(whole)


def test_ctrl_c_before_the_first_step_says_that_nothing_was_kept(cli, table, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(hyperagg.TextClassifier, "_train_tokenizer", interrupted)
    answer = cli("train", table, *ARGUMENTS, "--out", tmp_path / "model")
    assert answer.code == 130
    assert answer.err == "interrupted before there was a state to keep: repeat the command\n"
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def stopped(cli, table, tmp_path_factory):
    """A folder that an interrupted run left, made in this process."""
    from hyperagg.classifier.training import loop

    class Run(loop._Run):
        def end_epoch(self):
            super().end_epoch()
            if self.epoch == 3:
                os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path_factory.mktemp("stopped") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_Run", Run)
        assert cli("train", table, *ARGUMENTS, "--out", folder).code == 130
    return folder


OTHERS = {
    ("--seed", 6): "seed 5 there and 6 here",  # not the rows that it holds out
    ("--epochs", 31): "epochs 30 there and 31 here",
    ("--learning-rate", 0.1): "learning_rate not given there and 0.1 here",
    ("--d-model", 17): "d_model 16 there and 17 here",
    ("--balanced",): 'class_weight not given there and "balanced" here',
    ("--max-words", 90): "max_words 200000 there and 90 here",  # not the words
    ("--text", "label", "--label", "text"): "labels, vocabulary, texts and labels",
}


@pytest.mark.parametrize("changed", OTHERS)
def test_resume_with_other_arguments_or_data_is_refused(cli, table, stopped, changed):
    before = (stopped / "checkpoint.safetensors").read_bytes()
    answer = cli("train", table, *ARGUMENTS, *changed, "--out", stopped, "--resume")
    assert answer.code == 2
    assert answer.err == (
        f"hyperagg: {stopped / 'checkpoint.safetensors'}: belongs to a run with other data or "
        f"arguments: {OTHERS[changed]}; repeat those, or start again with --force instead of "
        "--resume (in Python with resume=False)\n"
    )
    assert (stopped / "checkpoint.safetensors").read_bytes() == before
    assert len(list(stopped.iterdir())) == 1


@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_a_truncated_checkpoint_is_reported_in_one_line(cli, table, stopped, tmp_path, size):
    content = (stopped / "checkpoint.safetensors").read_bytes()
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(content[:size])
    answer = cli("train", table, *ARGUMENTS, "--out", tmp_path, "--resume")
    assert answer.code == 2
    line = f"hyperagg: {checkpoint}: not a checkpoint of hyperagg; delete it to start from"
    assert answer.err == f"{line} the beginning\n"


def test_a_model_is_not_a_checkpoint(cli, table, whole, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(weights(whole))
    answer = cli("train", table, *ARGUMENTS, "--out", tmp_path, "--resume")
    assert answer.code == 2
    assert "not a checkpoint" in answer.err


def test_a_model_is_replaced_only_by_force(cli, table, whole, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(whole, out)
    for more in ((), ("--resume",)):
        answer = cli("train", table, *ARGUMENTS, "--out", out, *more)
        assert answer.code == 2 and weights(out) == weights(whole)
        assert answer.err == (
            f"hyperagg: --out {out}: holds a model; give another folder, or replace it with "
            "--force\n"
        )
    assert cli("train", table, *ARGUMENTS, "--seed", 6, "--out", out, "--force").code == 0
    assert weights(out) != weights(whole)


def test_an_interrupted_training_is_replaced_only_by_force(cli, table, whole, stopped, tmp_path):
    """Without --resume it used to begin anew, and in silence."""
    out = tmp_path / "model"
    shutil.copytree(stopped, out)
    answer = cli("train", table, *ARGUMENTS, "--out", out)
    assert answer.code == 2 and (out / "checkpoint.safetensors").exists()
    assert answer.err == (
        f"hyperagg: --out {out}: holds an interrupted training; continue it with --resume, or "
        "replace it with --force\n"
    )
    answer = cli("train", table, *ARGUMENTS, "--out", out, "--force")
    assert answer.code == 0 and weights(out) == weights(whole)


def test_two_commands_do_not_write_to_one_folder(cli, table, tmp_path):
    """The one that ended first used to remove the checkpoint of the other."""
    out = tmp_path / "model"
    process = start(SLOW, table, out)
    try:
        while not (out / "checkpoint.safetensors").exists() and process.poll() is None:
            time.sleep(0.01)
        answer = cli("train", table, *ARGUMENTS, "--out", out, "--resume")
        assert answer.code == 2
        assert answer.err == (
            f"hyperagg: --out {out}: another command writes to it; wait for it or give another "
            "folder\n"
        )
        assert (out / "checkpoint.safetensors").exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("had_checkpoint", [False, True])
def test_a_full_disk_at_the_start_of_the_second_run(
    cli, table, whole, tmp_path, monkeypatch, had_checkpoint
):
    """The training on all texts begins with a checkpoint."""
    from hyperagg._common import checkpoint
    from hyperagg.classifier.training import loop

    out = tmp_path / "model"
    shutil.copytree(whole, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_tensors = checkpoint.write_tensors

    def write(file, arrays, metadata):
        if json.loads(metadata["record"])["note"] is None:
            write_tensors(file, arrays, metadata)
            return
        file.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_tensors", write)
        if had_checkpoint:
            patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        answer = cli("train", table, *ARGUMENTS, "--out", out, "--force")
    file = out / "checkpoint.safetensors"
    kept = f"; the training is kept in {file}: repeat the command with --resume to continue"
    assert answer.code == 2
    assert answer.err == (
        f"hyperagg: {file}: No space left on device{kept if had_checkpoint else ''}\n"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir() if path != file} == before
    assert file.exists() == had_checkpoint
    more = ("--resume",) if had_checkpoint else ("--force",)
    answer = cli("train", table, *ARGUMENTS, "--out", out, *more)
    assert answer.code == 0 and weights(out) == weights(whole)


def test_a_full_disk_behind_standard_output_is_named(whole):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hyperagg", "predict", whole, "-"],
            input=b"oil\n", stdout=full, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert last == "hyperagg: standard output: No space left on device"


IMPORTING = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "hyperagg.cli.train":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from hyperagg.__main__ import main
main()
"""


def test_ctrl_c_while_modules_are_imported_gives_no_traceback():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_a_closed_pipe_gives_no_traceback(whole):
    command = f"{sys.executable} -c 'from hyperagg.cli import main; main()'"
    done = subprocess.run(
        f"yes oil | head -n 50000 | {command} predict {whole} - --probabilities | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_labels_of_any_language_are_piped_as_utf_8(cli, fresh, tmp_path):
    table = tmp_path / "фильмы.csv"
    films = ["скучный фильм,плохо", "прекрасный фильм,хорошо"] * 20
    table.write_text("\n".join(["text,label", *films]), "utf-8")
    assert cli("train", table, "--out", tmp_path / "m", "--d-model", 4).code == 0
    answer = fresh("predict", tmp_path / "m", table, PYTHONIOENCODING="latin-1")
    assert answer.err == "read 40 rows, answered 40\n"
    assert answer.out.splitlines() == ["плохо", "хорошо"] * 20


def test_one_document_through_standard_input(fresh, cli, whole, rows, tmp_path):
    text = " ".join(text for text, _ in rows[:200])
    (label,) = hyperagg.TextClassifier.from_pretrained(whole).predict([text])
    answer = fresh("predict", whole, "-", "--stream", stdin=text.encode())
    assert (answer.code, answer.out) == (0, f"{label}\n")
    answer = cli("predict", whole, "-", "--stream", stdin=b" \n")
    assert answer.code == 2 and "has no words" in answer.err
    torn = tmp_path / "torn.txt"
    torn.write_bytes(b"oil " * 400_000 + b"\xe9 rose")
    text = torn.read_bytes()
    streamed, row = (cli("predict", whole, "-", *more, stdin=text) for more in (["--stream"], []))
    assert (streamed.code, streamed.out) == (row.code, row.out) == (0, row.out)
    count = "read 1 row, answered 1, invalid UTF-8: 1 (first: line 1 of standard input"
    assert count in streamed.err and count in row.err
    answer = cli("predict", whole, torn, "--stream", "--text", "review")
    assert answer.code == 2 and "--stream" in answer.err


def test_files_of_all_kinds_are_counted(cli, model, tmp_path):
    films = ["a dull film\tbad", '"a fine film\tgood'] * 10
    (tmp_path / "1.tsv").write_text("\n".join(["text\tlabel", *films]))
    lines = "".join(
        f"__label__{label} {text}\n\n" for text, label in (f.split("\t") for f in films)
    )
    (tmp_path / "2.txt.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "3.csv").write_text("dull;bad\nfine;good\n")
    out = tmp_path / "out"
    answer = cli("train", tmp_path / "[12].*", "--out", out, "--d-model", 4, "--epochs", 1)
    assert answer.code == 0, answer.err
    assert "read 40 rows from 2 files, and 20 blank lines; trained on 40 rows" in answer.err
    headless = ("--no-header", "--delimiter", ";", "--text", 1, "--label", 2)
    answer = cli("evaluate", out, tmp_path / "3.csv", *headless)
    assert answer.code == 0, answer.err
    assert "read 2 rows; answered 2 rows" in answer.err
    answer = cli("explain", out, tmp_path / "2.txt.gz", "--json", "--limit", 2)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 2
    assert "read 40 rows, blank line: 20; explained 2" in answer.err
    answer = cli("evaluate", out, tmp_path / "1.tsv", "--quoting")
    assert answer.code == 2 and "line 3" in answer.err and "without quoting" in answer.err


def test_rows_that_cannot_be_used_are_left_out_on_request(cli, model, tmp_path):
    films = [("a dull film", "bad"), ("a fine film", "good")] * 10
    rows = [*films, ("", "bad"), ("a film", ""), ("too", "many", "fields")]
    file = tmp_path / "films.csv"
    file.write_text("\n".join(map(",".join, [("text", "label"), *rows])))
    small = ("--out", tmp_path / "out", "--d-model", 4, "--epochs", 1)
    assert cli("train", file, *small).code == 2
    answer = cli("train", file, *small, "--on-error", "skip")
    assert answer.code == 0, answer.err
    first = f"{file}: row 21 (line 22): empty text"
    assert f"read 23 rows, left out 3 of them (first: {first}); trained on 20 rows" in answer.err
    answer = cli("evaluate", tmp_path / "out", file, "--on-error", "skip")
    assert answer.code == 0, answer.err
    assert "left out 3 of them" in answer.err and "answered 20 rows" in answer.err
    file.write_text("\n".join(map(",".join, [("text", "label"), *films, ('"never', "closed")])))
    answer = cli("train", file, *small, "--on-error", "skip", "--force")
    assert answer.code == 0, answer.err
    assert "left out 1 of them" in answer.err and "(line 22): unclosed quotes" in answer.err
    file.write_text("text,label\n,good\nfilm,\n")
    answer = cli("train", file, *small, "--on-error", "skip")
    assert answer.code == 2 and "no row can be used" in answer.err
    answer = cli("train", file, *small, "--on-error", "empty")
    assert answer.code == 2 and "expected one of stop, skip" in answer.err
