"""The commands on tables of text, numbers, categories, images and audio."""

from __future__ import annotations

import csv
import errno
import json
import sys

import numpy as np
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file

from hyperagg.data.datasets.digits import load_fsdd, load_mnist

soundfile = pytest.importorskip("soundfile")
PILImage = pytest.importorskip("PIL.Image")

HEADER = ["photo", "clip", "word", "ink", "parity", "digit"]
COLUMNS = [
    *("--image", "photo", "--audio", "clip", "--text", "word"),
    *("--number", "ink", "--category", "parity", "--label", "digit"),
]
QUICK = ["--epochs", "4", "--d-model", "24"]
NAMES = ["zero", "one", "two"]


def write(path, rows, header=HEADER):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """240 digits as files, and tables of them with empty cells."""
    out = tmp_path_factory.mktemp("digits")
    images, clips = load_mnist().train, load_fsdd().train
    (out / "media").mkdir()
    rng, rows = np.random.default_rng(0), []
    clips_of = [np.flatnonzero(clips.labels == label) for label in range(len(NAMES))]
    for i, row in enumerate(np.flatnonzero(images.labels < len(NAMES))[:240]):
        image, label = images.images[row], images.labels[row]
        PILImage.fromarray(image).save(out / f"media/{i}.png")
        clip = clips[int(rng.choice(clips_of[label]))]
        soundfile.write(out / f"media/{i}.wav", clip, clips.sample_rate)
        cells = [f"media/{i}.png", f"media/{i}.wav", f"it is {NAMES[label]}", f"{image.mean():.2f}"]
        cells = [cell if rng.random() < 0.7 else "" for cell in cells]
        rows.append([*cells, f"p{len(NAMES[label]) % 2}", NAMES[label]])
    write(out / "train.csv", rows[:200])
    write(out / "test.csv", rows[200:])
    return out


@pytest.fixture(scope="module")
def model(cli, folder):
    answer = cli("train", folder / "train.csv", *COLUMNS, *QUICK, "--out", folder / "model")
    assert answer.code == 0, answer.err
    assert "200 rows, 3 classes" in answer.err and "accuracy on held-out rows" in answer.err
    assert "calibration error on held-out rows: " in answer.err
    return folder / "model"


def test_all_commands_take_the_model(cli, model, folder):
    answer = cli("evaluate", model, folder / "test.csv", "--label", "digit", "--json")
    scores = json.loads(answer.out)
    assert scores["rows"] == 40 and scores["accuracy"] > 0.7
    labels = cli("predict", model, folder / "test.csv").out.splitlines()
    assert len(labels) == 40 and set(labels) <= set(NAMES)
    lines = cli("predict", model, folder / "test.csv", "--probabilities").out.splitlines()
    first = json.loads(lines[0])
    assert first["label"] == labels[0] and sum(first["probabilities"].values()) == pytest.approx(
        1, abs=1e-5
    )
    explanations = cli(
        "explain", model, folder / "test.csv", "--limit", "3", "--json"
    ).out.splitlines()
    assert len(explanations) == 3
    for line in map(json.loads, explanations):
        parts = [np.sum(own["contributions"], 0) for own in line["modalities"].values()]
        np.testing.assert_allclose(np.sum(parts, 0) + line["bias"], line["logits"], atol=1e-3)
    report, why = folder / "report.html", folder / "why.html"
    assert (
        cli("evaluate", model, folder / "test.csv", "--label", "digit", "--report", report).code
        == 0
    )
    assert "Confusion matrix" in report.read_text("utf-8")
    options = ["--label", "digit", "--row", "3", "--class", "two", "--html", why]
    answer = cli("explain", model, folder / "test.csv", *options)
    assert answer.code == 0 and "\ntwo " in answer.out
    assert "row 3" in why.read_text("utf-8") and "<h3>" in why.read_text("utf-8")
    shown = cli("explain", model, folder / "test.csv", "--limit", "2")
    assert "logit" in shown.out and "the first 2 of 40 rows" in shown.err


def test_predictions_in_files(cli, model, folder):
    test, labels = folder / "test.csv", cli("predict", model, folder / "test.csv").out.split()
    given = [row[-1] for row in read(test)[1:]]
    options = ["--keep", "digit=given", "--top-k", "1"]
    for name in ("new.csv", "new.jsonl", "new.parquet"):
        answer = cli("predict", model, test, "--out", folder / name, "--keep", "digit=given")
        assert answer.code == 0 and not answer.out and "answered 40" in answer.err
    rows = [json.loads(line) for line in (folder / "new.jsonl").read_text("utf-8").splitlines()]
    assert [row["label"] for row in rows] == labels and [row["given"] for row in rows] == given
    header, *cells = read(folder / "new.csv")
    assert header == ["row", "given", "label", "score"]
    assert cells == [[str(value) for value in row.values()] for row in rows]
    written = parquet.read_table(folder / "new.parquet").to_pylist()
    assert [row["label"] for row in written] == labels
    shown = cli("predict", model, test, *options).out.splitlines()
    assert [json.loads(line)["labels"] for line in shown] == [[label] for label in labels]


@pytest.mark.parametrize("name", ["full.jsonl", "full.parquet"])
def test_nothing_is_left_of_an_output_that_cannot_be_written(cli, model, folder, monkeypatch, name):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hyperagg._common.atomic._flush", fail)
    answer = cli("predict", model, folder / "test.csv", "--out", folder / name)
    assert answer.code == 2 and f"{name}: No space left on device" in answer.err
    assert "--resume" not in answer.err
    assert not list(folder.glob(f"*{name}*"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--out", "new.csv"], "new.csv: exists; --force replaces it"),
        (["--out", "new.txt", "--keep", "digit"], "--keep: plain labels have no columns"),
        (["--out", "new.png"], "new.png: expected a folder, or a file with one of the extensions"),
        (["--keep", "digits"], "does not have a column 'digits' (--keep)"),
        (["--keep", "digit=label"], "--keep label: the output has a column of that name"),
        (["--resume"], "--resume: applies to a classifier of text alone"),
    ],
)
def test_outputs_that_are_refused(cli, model, folder, monkeypatch, options, error):
    monkeypatch.chdir(folder)
    (folder / "new.csv").write_text("mine")
    answer = cli("predict", model, "test.csv", *options)
    assert answer.code == 2 and error in answer.err, answer.err
    assert (folder / "new.csv").read_text() == "mine"


def test_a_file_may_lack_columns(cli, model, folder):
    write(folder / "words.csv", [["it is two"], ["it is zero"]], ["word"])
    answer = cli("predict", model, folder / "words.csv")
    assert answer.code == 0 and len(answer.out.splitlines()) == 2
    assert (
        "words.csv has no columns 'ink', 'parity', 'photo', 'clip'; they are missing in every"
        in answer.err
    )


def test_regression_and_other_formats(cli, folder):
    header, *rows = read(folder / "train.csv")
    rows = [dict(zip(header, row)) for row in rows]
    lines = [json.dumps({**row, "ink": float(row["ink"] or 30)}) for row in rows]
    (folder / "train.jsonl").write_text("\n".join(lines))
    options = ["--image", "photo", "--label", "ink", "--regression", "--epochs", "3"]
    # Rows without a photo have nothing: the parity is read as well.
    options += ["--category", "parity", "--d-model", "16"]
    out = folder / "ink"
    answer = cli("train", folder / "train.jsonl", *options, "--out", out)
    assert answer.code == 0 and "R² on held-out rows" in answer.err, answer.err
    values = list(map(float, cli("predict", out, folder / "test.csv").out.split()))
    assert len(values) == 40
    for name in ("ink.csv", "ink.jsonl", "ink.parquet"):
        target = folder / name
        answer = cli("predict", out, folder / "test.csv", "--out", target, "--keep", "digit")
        assert answer.code == 0, answer.err
    lines = [json.loads(line) for line in (folder / "ink.jsonl").read_text("utf-8").splitlines()]
    assert [line["value"] for line in lines] == values and list(lines[0]) == [
        "row",
        "digit",
        "value",
    ]
    header, *cells = read(folder / "ink.csv")
    assert header == ["row", "digit", "value"] and [float(row[2]) for row in cells] == values
    written = parquet.read_table(folder / "ink.parquet")["value"].to_pylist()
    assert written == pytest.approx(values, rel=1e-5)
    # Without a number to compare with, a row cannot be measured.
    answer = cli("evaluate", out, folder / "test.csv", "--label", "ink")
    assert answer.code == 2 and "'ink' is empty" in answer.err


def broken(folder, name, change):
    rows = read(folder / "train.csv")[1:11]
    for row in rows:
        row[:5] = ["media/0.png", "media/0.wav", "it is", "3", "p1"]
    change(rows)
    return write(folder / name, rows)


def put(row, column, value):
    def change(rows):
        rows[row][HEADER.index(column)] = value

    return change


def clear(rows):
    rows[4][:5] = [""] * 5


CHANGES = [
    (put(3, "photo", "media/none.png"), "row 4 (line 5), column 'photo': {}/media/none.png: "),
    (put(3, "photo", "media/0.wav"), "media/0.wav: not an image that Pillow can read"),
    (put(3, "photo", "media/cut.png"), "media/cut.png: not a complete image file"),
    (
        put(3, "clip", "media/cut.wav"),
        "row 4 (line 5), column 'clip': {}/media/cut.wav: not a complete audio",
    ),
    (put(3, "clip", "media"), "media: expected an audio file, got a folder"),
    (put(3, "clip", "media/0.png"), "media/0.png: not a complete audio file"),
    (put(3, "clip", "media/empty.wav"), "media/empty.wav: has no samples"),
    (put(3, "ink", "dark"), "row 4 (line 5): 'ink' is 'dark': expected a finite number"),
    (put(3, "ink", "inf"), "row 4 (line 5): 'ink' is 'inf': expected a finite number"),
    (put(3, "digit", ""), "row 4 (line 5): 'digit' is empty (1 row of 10)"),
    (clear, "row 5 (line 6): has no value in any of"),
]


@pytest.fixture
def damaged(folder):
    """Files that are no whole images and recordings."""
    whole = (folder / "media/0.png").read_bytes()
    (folder / "media/cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "media/cut.wav").write_bytes((folder / "media/0.wav").read_bytes()[:20])
    soundfile.write(folder / "media/empty.wav", np.zeros(0), 8000)


@pytest.mark.parametrize(("change", "error"), CHANGES)
def test_one_line_names_row_and_file(cli, folder, damaged, change, error):
    table = broken(folder, "broken.csv", change)
    answer = cli("train", table, *COLUMNS, *QUICK, "--out", folder / "none")
    assert answer.code == 2 and error.format(folder) in answer.err, answer.err
    assert len(answer.err.splitlines()) == 1 and not (folder / "none").exists()


@pytest.mark.parametrize(("change", "error"), CHANGES)
def test_a_row_with_such_a_cell_is_left_out_on_request(cli, model, folder, damaged, change, error):
    """Images and recordings that cannot be read ended the commands."""
    table = broken(folder, "skipped.csv", change)
    error = error.partition(" (1 row of")[0].format(folder)
    answer = cli("evaluate", model, table, "--label", "digit", "--on-error", "skip", "--json")
    assert answer.code == 0 and json.loads(answer.out)["rows"] == 9, answer.err
    assert "read 10 rows, left out 1 of them" in answer.err and error in answer.err
    if "digit" not in error:
        answer = cli("predict", model, table, "--on-error", "skip", "--top-k", 1)
        rows = [json.loads(line)["row"] for line in answer.out.splitlines()]
        assert rows == [row for row in range(1, 11) if row != (5 if change is clear else 4)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ["--image", "foto"],
            "does not have a column 'foto' (--image); its columns are 'photo', 'clip', ",
        ),
        (["--image", "word"], "row 1 (line 2), column 'word': "),
        (["--number", "word"], "'word' is 'it is"),
        (["--number", "digit"], "--number digit: the column holds the labels"),
        (
            ["--image", "photo", "--audio", "photo"],
            "--audio photo: the column is given as --image",
        ),
        (
            ["--regression", "--balanced"],
            "--balanced: applies to labels, not to a continuous target",
        ),
        (["--category", "parity", "--regression"], "'digit' is '"),
        (["--category", "word"], "row 1"),
    ],
)
def test_columns_of_the_wrong_kind(cli, folder, options, error):
    rows = read(folder / "train.csv")[1:]
    kept = [row for row in rows if row[2]][:10]
    kept[1][2] = ""
    table = write(folder / "kinds.csv", kept)
    if options == ["--category", "word"]:
        error = "row 2 (line 3): has no value in any of the columns 'word' (1 of 10 rows)"
    answer = cli("train", table, *options, "--label", "digit", "--out", folder / "none")
    assert answer.code == 2 and error in answer.err, answer.err


def test_one_class(cli, folder):
    table = write(folder / "one.csv", [["1", "7"], ["2", "7"]], ["ink", "digit"])
    answer = cli("train", table, "--number", "ink", "--label", "digit", "--out", folder / "none")
    assert answer.code == 2 and "one.csv: all labels are '7'" in answer.err
    answer = cli("train", table, "--number", "ink", "--label", "digits", "--out", folder / "none")
    assert answer.code == 2
    assert (
        "one.csv: does not have a column 'digits' (--label); its columns are 'ink'," in answer.err
    )


def test_files_for_a_trained_model(cli, model, folder):
    table = broken(folder, "later.csv", clear)
    for command in ("predict", "evaluate", "explain"):
        label = ["--label", "digit"] if command == "evaluate" else []
        answer = cli(command, model, table, *label)
        assert answer.code == 2 and "row 5 (line 6): has no value in any of" in answer.err, command
    write(folder / "other.csv", [["x"]], ["other"])
    answer = cli("predict", model, folder / "other.csv")
    assert answer.code == 2 and "has none of the model's columns 'word'" in answer.err
    answer = cli("predict", model, table, "--text", "word")
    assert answer.code == 2 and "--text: applies to a classifier of text alone" in answer.err
    answer = cli("explain", model)
    assert answer.code == 2 and "name a FILE as well" in answer.err


@pytest.mark.parametrize(("module", "what"), [("PIL", "Pillow"), ("soundfile", "soundfile")])
def test_without_the_extra(cli, folder, monkeypatch, module, what):
    monkeypatch.setitem(sys.modules, module, None)
    table = broken(folder, "extra.csv", lambda rows: None)
    option = ["--image", "photo"] if module == "PIL" else ["--audio", "clip"]
    answer = cli("train", table, *option, "--label", "digit", "--out", folder / "none")
    assert answer.code == 2
    assert f"{what}: pip install 'hyperagg[multimodal]'" in answer.err


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("cell", ["a review, not the path of a file " * 50, "~nobody-of-that-name"])
def test_a_cell_that_is_not_a_path_is_one_line(cli, tmp_path, kind, cell):
    table = write(tmp_path / "items.csv", [[cell, "yes"], [cell, "no"]], ["review", "label"])
    answer = cli("train", table, f"--{kind}", "review", "--out", tmp_path / "model")
    assert answer.code == 2 and len(answer.err.splitlines()) == 1 and len(answer.err) < 600
    assert "items.csv: row 1 (line 2), column 'review': " in answer.err
    assert "the file does not exist" in answer.err


def test_resume_without_a_checkpoint_says_so(cli, folder, tmp_path):
    out = tmp_path / "model"
    command = ["train", folder / "test.csv", "--category", "parity", "--label", "digit"]
    command += ["--out", out, "--epochs", "1"]
    answer = cli(*command, "--resume")
    assert "model holds no interrupted training: training from the beginning" in answer.err
    answer = cli(*command)
    assert answer.code == 2 and "model: holds a model; give another folder, or" in answer.err
    assert cli(*command, "--force").code == 0


def test_arguments_are_checked_before_the_table_is_read(cli, folder):
    options = ["--number", "ink", "--learning-rate", "-1", "--out", folder / "none"]
    answer = cli("train", folder / "absent.csv", *options)
    assert answer.code == 2 and "learning_rate=-1.0: expected a finite number > 0" in answer.err


def test_an_interrupted_training_is_resumed_to_the_same_weights(cli, model, folder, monkeypatch):
    from hyperagg.multimodal import MultimodalClassifier

    fit = MultimodalClassifier.fit

    def interrupted(self, *args, **options):
        def stop(progress):
            if progress.fraction > 0.5:
                raise KeyboardInterrupt

        return fit(self, *args, **options, callbacks=[stop])

    monkeypatch.setattr(MultimodalClassifier, "fit", interrupted)
    monkeypatch.setattr("hyperagg._common.torch_trainer.CHECKPOINT_SECONDS", 0.0)
    command = ["train", folder / "train.csv", *COLUMNS, *QUICK, "--out", folder / "again"]
    answer = cli(*command)
    assert answer.code == 130 and "--resume" in answer.err
    assert (folder / "again" / "checkpoint.safetensors").exists()
    monkeypatch.setattr(MultimodalClassifier, "fit", fit)
    assert cli(*command, "--resume").code == 0
    assert not (folder / "again" / "checkpoint.safetensors").exists()
    weights = [load_file(out / "model.safetensors") for out in (model, folder / "again")]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=1e-4, err_msg=name)


def test_rows_that_cannot_be_used_are_left_out_on_request(cli, tmp_path):
    """Also where the text is the only column."""
    rows = [(f"{'good' if i % 2 else 'dull'} film", f"{i % 2}") for i in range(20)]
    bad = [("", "3"), ("a film", "much"), ("a film", ""), ("too", "many", "fields")]
    file = write(tmp_path / "films.csv", [*bad, *rows], ["note", "price"])
    out = tmp_path / "out"
    train = ["train", file, "--text", "note", "--label", "price", "--regression", "--out", out]
    train += ["--epochs", "1", "--d-model", "4"]
    answer = cli(*train)
    assert answer.code == 2 and "row 4 (line 5) has 3 fields" in answer.err
    answer = cli(*train, "--on-error", "skip")
    assert answer.code == 0, answer.err
    assert f"24 rows, left out 4 of them (first: {file}: row 1 (line 2): has no" in answer.err
    skip = ("--on-error", "skip")
    answer = cli("evaluate", out, file, "--label", "price", "--json", *skip)
    assert json.loads(answer.out)["rows"] == 20
    # Without labels, only the row without a text and the malformed one cannot be used.
    answer = cli("predict", out, file, *skip)
    assert len(answer.out.splitlines()) == 22 and "left out 2 of them" in answer.err
    answer = cli("explain", out, file, "--row", "5", "--json", *skip)
    assert "dull" in json.loads(answer.out)["modalities"]["note"]["tokens"]
    answer = cli("explain", out, file, "--row", "1", *skip)
    assert answer.code == 2 and "--row 1: cannot be used and is left out" in answer.err
    answer = cli("predict", out, file, "--on-error", "empty")
    assert answer.code == 2 and "expected one of stop, skip" in answer.err
