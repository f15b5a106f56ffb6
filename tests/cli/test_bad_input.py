"""Bad input of every kind: one line that says where and what, exit code 2, nothing left behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

FILMS = ["a dull film,bad", "a fine film,good"] * 20


def table(*lines, header="text,label"):
    return "\n".join([header, *lines]).encode()


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def zipped(name, content):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, content)
    return sink.getvalue()


WHOLE_PARQUET = parquet(text=["a", "b"] * 50, label=["x", "y"] * 50)
FILES = {
    "good.csv": table(*FILMS),
    "good.jsonl": b'{"text": "a fine film"}\n',
    "empty.csv": b"",
    "blank.csv": b"\n \n\n",
    "header.csv": table(),
    "one-class.csv": table("a,x", "b,x"),
    "empty-text.csv": table("a,x", ",y"),
    "blank-text.csv": table("a,x", '" \t",y'),
    "no-label.csv": table("a,x", "b,"),
    "few-fields.csv": table("a,x", "b"),
    "many-fields.csv": table("a,x", "b,y", "well, c,x"),
    "open-quote.csv": table('"a,x', "b,y"),
    "two-text.csv": table("a,b,x", header="text,text,label"),
    "latin.csv": table("café,x", "b,y").decode().encode("latin-1"),
    "utf16.csv": table("a,x", "b,y").decode().encode("utf-16-le"),
    "zero.csv": b"text,label\na\0,x\n",
    "gzip.csv": gzip.compress(table(*FILMS))[:-4],
    "zip.csv": zipped("a.csv", table(*FILMS)),
    "png.csv": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "pdf.csv": b"%PDF-1.7\n",
    "noise.csv": np.random.default_rng(0).bytes(2000),
    "parquet.csv": WHOLE_PARQUET,
    "half.parquet": WHOLE_PARQUET[: len(WHOLE_PARQUET) // 2],
    "text.parquet": table(*FILMS),
    "numbers.parquet": parquet(text=[1, 2], label=["x", "y"]),
    "null.parquet": parquet(text=["a", None], label=["x", "y"]),
    "broken.jsonl": b'{"text": "a", "label": "x"}\n{"text": "b", \n',
    "list.jsonl": b'{"text": "a", "label": "x"}\n["b", "y"]\n',
    "absent.jsonl": b'{"text": "a", "label": "x"}\n{"text": "b"}\n',
    "number.jsonl": b'{"text": "a", "label": "x"}\n{"text": 7, "label": "y"}\n',
    "labels.jsonl": b'{"text": "a", "label": ["x", null]}\n',
    "deep.jsonl": b"[" * 100_000,
    "no-labels.txt": b"a dull film\na fine film\n",
    "nameless.txt": b"__label__x a\n__label__ b\n",
    "table.xyz": table(*FILMS),
    "huge-line.csv": b"text;" + b"a" * 5_000_000,
    "esc\x1b[2J\nape.csv": table("a,x", "b,x"),
}

# Arguments, and what the one line has to name.
FILE_CASES = {
    "absent file": ("train nothing.csv", ["nothing.csv", "does not exist"]),
    "directory": ("train folder", ["folder: the folder has no file with a known extension"]),
    "file under a file": ("train good.csv/x", ["good.csv/x"]),
    "wrong text column": ("train good.csv --text texts", ["'texts' (--text)", "'label'"]),
    "wrong label column": ("train good.csv --label stars", ["'stars' (--label)", "'text'"]),
    "one column twice": ("train good.csv --label text", ["good.csv", "'text'", "--label"]),
    "two columns of a name": ("train two-text.csv", ["two-text.csv", "2 columns"]),
    "empty": ("train empty.csv", ["empty.csv: the file is empty"]),
    "blank": ("train blank.csv", ["blank.csv: the file is empty"]),
    "header only": ("train header.csv", ["header.csv: has no rows"]),
    "one class": ("train one-class.csv", ["one-class.csv: all labels are 'x'", "two classes"]),
    "empty text": ("train empty-text.csv", ["empty-text.csv: row 2 (line 3)", "empty text"]),
    "blank text": ("train blank-text.csv", ["blank-text.csv: row 2 (line 3)", "empty text"]),
    "no label": ("train no-label.csv", ["no-label.csv: row 2 (line 3)", "no label"]),
    "too few fields": ("train few-fields.csv", ["few-fields.csv: row 2 (line 3)", "1 field"]),
    "too many fields": ("train many-fields.csv", ["many-fields.csv: row 3 (line 4)", "3 fields"]),
    "open quote": ("train open-quote.csv", ["open-quote.csv: row 1 (lines 2 to 3): unclosed"]),
    "Latin-1": ("train latin.csv", ["latin.csv: row 1 (line 2): invalid UTF-8", "0xe9"]),
    "UTF-16": ("train utf16.csv", ["utf16.csv: looks like UTF-16 without"]),
    "zero byte": ("train zero.csv", ["zero.csv: row 1 (line 2): NUL character"]),
    "gzip": ("train gzip.csv", ["gzip.csv: cannot be read to its end"]),
    "zip": ("train zip.csv", ["zip.csv: is a ZIP archive"]),
    "image": ("train png.csv", ["png.csv: is a PNG image"]),
    "PDF": ("train pdf.csv", ["pdf.csv: is a PDF"]),
    "noise": ("train noise.csv", ["noise.csv"]),
    "Parquet called CSV": ("train parquet.csv", ["parquet.csv: is a Parquet file"]),
    "half a Parquet file": ("train half.parquet", ["half.parquet", "damaged"]),
    "CSV called Parquet": ("train text.parquet", ["text.parquet: is not a Parquet file"]),
    "Parquet without strings": ("train numbers.parquet", ["numbers.parquet: column 'text'"]),
    "Parquet with a null": ("train null.parquet", ["null.parquet: row 2", "empty text"]),
    "broken JSON": ("train broken.jsonl", ["broken.jsonl: line 2: not JSON"]),
    "JSON list": ("train list.jsonl", ["list.jsonl: line 2: a list instead of a JSON object"]),
    "JSON without label": ("train absent.jsonl", ["absent.jsonl: line 2 has no label"]),
    "JSON text is a number": ("train number.jsonl", ["number.jsonl: line 2", "'text'"]),
    "JSON with null for a label": ("train labels.jsonl", ["labels.jsonl: line 1, label 2"]),
    "deep JSON": ("train deep.jsonl", ["deep.jsonl: line 1:", "nested too deeply"]),
    "fastText without labels": ("train no-labels.txt", ["no-labels.txt: no line has a label"]),
    "fastText without a name": ("train nameless.txt", ["nameless.txt: line 2 has no label after"]),
    "unknown extension": ("train table.xyz", ["table.xyz: extension '.xyz'", "csv"]),
    "unknown format": ("train good.csv --format xls", ["'xls'", "csv"]),
    "format without labels": ("train good.csv --format lines", ["good.csv", "no labels"]),
    "huge line": ("train huge-line.csv", ["huge-line.csv: does not have a column 'text'"]),
    "empty standard input": ("train -", ["standard input: the file is empty"]),
    "evaluate: no label": ("evaluate model no-label.csv", ["no-label.csv: row 2 (line 3)"]),
    "evaluate: wrong column": ("evaluate model good.csv --text x", ["good.csv", "'x'", "'label'"]),
    "evaluate: absent file": ("evaluate model nothing.csv", ["nothing.csv"]),
    "predict: wrong column": ("predict model good.csv --text x", ["good.csv", "'x'", "'label'"]),
    "predict: empty text": (
        "predict model empty-text.csv --on-error stop",
        ["empty-text.csv: line 3: empty text"],
    ),
    "predict: Latin-1": (
        "predict model latin.csv --on-error stop",
        ["latin.csv: line 2: invalid UTF-8"],
    ),
    "predict: on error": (
        "predict model good.csv --on-error x",
        ["--on-error x", "empty, stop, skip"],
    ),
    "predict: absent folder": ("predict model nothing", ["nothing: the file does not exist"]),
    "predict: glob": ("predict model *.nothing", ["*.nothing: matches no file"]),
    "predict: output": ("predict model good.csv --out x.xyz", ["--out x.xyz", ".jsonl"]),
    "predict: output format": ("predict model good.csv --output-format xls", ["xls", "parquet"]),
    "predict: Parquet to a pipe": (
        "predict model good.csv --output-format parquet",
        ["--output-format parquet", "--out"],
    ),
    "predict: output is the input": (
        "predict model good.jsonl --out good.jsonl --force",
        ["--out good.jsonl: is the input"],
    ),
    "predict: output exists": (
        "predict model good.csv --out good.jsonl",
        ["good.jsonl", "--force"],
    ),
    "predict: absent column to keep": ("predict model good.csv --keep x", ["good.csv", "'x'"]),
    "predict: kept name": ("predict model good.csv --keep label", ["--keep label=given_label"]),
    "predict: kept twice": ("predict model good.csv --keep text --keep text", ["--keep text"]),
    "predict: plain labels with columns": (
        "predict model good.csv --keep text --output-format labels",
        ["--keep", "--output-format jsonl"],
    ),
    "predict: shard": ("predict model good.csv --shard 2/2", ["--shard 2/2", "0 to N - 1"]),
    "predict: resume standard output": ("predict model good.csv --resume", ["--resume", "--out"]),
    "predict: resume and force": (
        "predict model good.csv --out o.jsonl --resume --force",
        ["--force", "--resume"],
    ),
    "predict: two outputs of one name": (
        "predict model good.csv good.jsonl --out new",
        ["--out new: good.csv and good.jsonl"],
    ),
    "predict: engine": ("predict model good.csv --engine x", ["--engine x", "local, ray"]),
    "predict: workers": ("predict model good.csv --workers 0", ["--workers"]),
    "predict: one document with columns": (
        "predict model good.csv --stream --text review",
        ["--text: does not apply to --stream"],
    ),
    "predict: binary": ("predict model png.csv", ["png.csv: is a PNG"]),
    "predict: threshold": (
        "predict model good.csv --threshold 2",
        ["--threshold=2.0: expected a finite number >= 0 and <= 1"],
    ),
    "predict: negative threshold": ("predict model good.csv --threshold -1", ["--threshold=-1.0"]),
    "predict: threshold of NaN": ("predict model good.csv --threshold nan", ["--threshold=nan"]),
}
ARGUMENT_CASES = {
    "--out is a file": ("train good.csv --out empty.csv", ["--out empty.csv"]),
    "--out under a file": ("train good.csv --out good.csv/x/y", ["--out good.csv/x/y"]),
    "--out under a device": ("train good.csv --out /dev/null/x", ["--out /dev/null/x"]),
    "--out cannot be made": ("train good.csv --out /proc/x/y", ["--out /proc/x/y"]),
    "rate too high": ("train good.csv --learning-rate 1e30", ["learning_rate=1e+30", "finite"]),
    "rate is NaN": ("train good.csv --learning-rate nan", ["learning_rate=nan"]),
    "rate is infinite": ("train good.csv --learning-rate inf", ["learning_rate=inf"]),
    "rate is 0": ("train good.csv --learning-rate 0", ["learning_rate=0"]),
    "rate is a word": ("train good.csv --learning-rate fast", ["--learning-rate"]),
    "no epochs": ("train good.csv --epochs 0", ["--epochs"]),
    "epochs are a word": ("train good.csv --epochs many", ["--epochs"]),
    "half an epoch": ("train good.csv --epochs 0.5", ["--epochs"]),
    "no dimension": ("train good.csv --d-model 0", ["--d-model"]),
    "dimension too large": ("train good.csv --d-model 10000000000000", ["d_model=1", "1048576"]),
    "more than an integer holds": ("train good.csv --d-model 1" + "0" * 30, ["d_model=1"]),
    "negative seed": ("train good.csv --seed -1", ["--seed"]),
    "huge seed": ("train good.csv --seed 1" + "0" * 30, ["seed=1"]),
    "unknown option": ("train good.csv --colour red", ["--colour", "hyperagg train --help"]),
    "option without value": ("train good.csv --out new --text", ["--text"]),
    "no file": ("train", ["FILE", "hyperagg train --help"]),
    "one of two files is absent": (
        "train good.csv nothing.csv",
        ["nothing.csv: the file"],
    ),
    "two tables": ("train good.csv null.parquet --number n", ["null.parquet", "one FILE"]),
    "no such command": ("tran good.csv", ["'tran'", "'train'"]),
    "compare: unknown data set": ("compare r53", ["'r53'", "did you mean r5"]),
    "compare: a path": ("compare ../folder", ["'../folder'"]),
    "compare: unknown baseline": (
        "compare mine --baselines lstm",
        ["lstm", "attention", "transformer"],
    ),
    "compare: no seeds": ("compare mine --seeds 0", ["--seeds"]),
    "compare: --out is a file": ("compare mine --out good.csv", ["--out good.csv"]),
    "compare: half a data set": ("compare half", ["half"]),
    "data: unknown data set": ("data show rueters", ["'rueters'", "did you mean reuters"]),
    "data: negative rows": ("data show mine --rows -1", ["--rows"]),
}


def edit_config(change):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def edit_tensors(change):
    def damage(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def replace_file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def truncate(name, fraction):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * fraction)])

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def folder_instead(name):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def without_words(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["vocabulary"].remove("film")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


# What is done to a model's folder, and what the one line has to name.
MODEL_CASES = {
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], ["no config.json"]),
    "config missing": (remove("config.json"), ["no config.json"]),
    "config cut": (truncate("config.json", 0.5), ["config.json: damaged"]),
    "config empty": (truncate("config.json", 0), ["config.json: damaged"]),
    "config binary": (replace_file("config.json", b"\xff\0\x80"), ["config.json: damaged"]),
    "config deep": (replace_file("config.json", b"[" * 100_000), ["config.json: damaged"]),
    "config a list": (replace_file("config.json", b"[]"), ["expected a JSON object"]),
    "config a folder": (folder_instead("config.json"), ["config.json: "]),
    "not ours": (replace_file("config.json", b'{"model_type": "bert"}'), ["not a text classifier"]),
    "other version": (
        edit_config(lambda config: config.update(format_version=1)),
        ["version 1", "train the model again"],
    ),
    "version of odd kind": (
        edit_config(lambda config: config.update(format_version=["\x1b[2J"] * 999)),
        ["version"],
    ),
    "classes missing": (edit_config(lambda config: config.pop("classes")), ["classes"]),
    "classes a word": (edit_config(lambda config: config.update(classes="good")), ["classes"]),
    "classes twice": (edit_config(lambda config: config.update(classes=["x"] * 2)), ["classes"]),
    "a class more": (
        edit_config(lambda config: config["classes"].append("odd")),
        ["model.safetensors", "weight is [2, 4]"],
    ),
    "d_model other": (edit_config(lambda config: config.update(d_model=5)), ["[9, 4]", "[9, 5]"]),
    "d_model immense": (edit_config(lambda config: config.update(d_model=10**15)), ["d_model=1"]),
    "d_model a word": (edit_config(lambda config: config.update(d_model="four")), ["d_model"]),
    "unknown key": (edit_config(lambda config: config.update(mixer="x")), ["'mixer'"]),
    "pooling a list": (edit_config(lambda config: config.update(pooling=[])), ["config.json"]),
    "history null": (edit_config(lambda config: config.update(history=None)), ["config.json"]),
    "weights missing": (remove("model.safetensors"), ["model.safetensors is missing"]),
    "weights cut": (truncate("model.safetensors", 0.5), ["model.safetensors: damaged"]),
    "weights empty": (truncate("model.safetensors", 0), ["model.safetensors: damaged"]),
    "weights noise": (
        replace_file("model.safetensors", np.random.default_rng(1).bytes(500)),
        ["model.safetensors: damaged"],
    ),
    "weights a folder": (folder_instead("model.safetensors"), ["model.safetensors"]),
    "tensor missing": (edit_tensors(lambda tensors: tensors.pop("bias")), ["bias is missing"]),
    "tensor too many": (
        edit_tensors(lambda tensors: tensors.update(odd=np.ones(2, np.float32))),
        ["odd"],
    ),
    "tensor of other shape": (
        edit_tensors(lambda tensors: tensors.update(bias=np.ones(3, np.float32))),
        ["bias is [3]", "[2]"],
    ),
    "tensor of integers": (
        edit_tensors(lambda tensors: tensors.update(bias=np.ones(2, np.int64))),
        ["bias", "I64"],
    ),
    "tokenizer missing": (remove("tokenizer.json"), ["tokenizer.json is missing"]),
    "tokenizer cut": (truncate("tokenizer.json", 0.9), ["tokenizer.json: damaged"]),
    "tokenizer empty": (truncate("tokenizer.json", 0), ["tokenizer.json: damaged"]),
    "tokenizer a list": (replace_file("tokenizer.json", b"[]"), ["tokenizer.json: damaged"]),
    "tokenizer null": (
        replace_file("tokenizer.json", b'{"pre_tokenizer": {"pattern": []}, "model": {}}'),
        ["tokenizer.json: damaged"],
    ),
    "tokenizer of no kind": (
        replace_file("tokenizer.json", b'{"model": {"type": "Rhyme"}}'),
        ["tokenizer.json: damaged"],
    ),
    "tokenizer not UTF-8": (replace_file("tokenizer.json", b'{"a": "\xff"}'), ["tokenizer.json"]),
    "tokenizer a folder": (folder_instead("tokenizer.json"), ["tokenizer.json"]),
    "a word fewer": (without_words, ["model.safetensors: damaged", "embedding"]),
}
NOT_A_MODEL_CASES = {
    "absent": ("nothing", ["nothing: not found; expected a folder"]),
    "file": ("good.csv", ["good.csv: is a file"]),
    "path": ("folder/nothing/x", ["folder/nothing/x: not found"]),
    "not on the hub": ("someone/nothing", ["someone/nothing: neither a folder nor a model"]),
    "no name for the hub": (
        "some one/no thing",
        ["some one/no thing: neither a folder nor a model"],
    ),
}


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """The current directory: with the files above, a model, and data sets called mine and half."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPERAGG_DATA", str(tmp_path / "data"))
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "folder").mkdir()
    for name in ("data/mine/train", "data/mine/test", "data/half/train"):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WHOLE_PARQUET)
    return tmp_path


def tree(folder):
    """Every path in a folder, and what the files hold."""
    return {
        str(path.relative_to(folder)): path.is_file() and hashlib.md5(path.read_bytes()).digest()
        for path in folder.rglob("*")
    }


def check(cli, folder, arguments, fragments):
    before = tree(folder)
    answer = cli(*arguments)
    assert answer.code == 2, answer
    assert answer.err.startswith("hyperagg: ")
    assert answer.err.endswith("\n")
    assert len(answer.err.splitlines()) == 1, answer.err
    assert len(answer.err) < 600
    assert answer.err[:-1].isprintable()
    assert answer.out == ""
    for fragment in fragments:
        assert fragment in answer.err
    assert tree(folder) == before


@pytest.mark.parametrize("case", [*FILE_CASES, *ARGUMENT_CASES])
def test_command(cli, folder, case):
    command, fragments = (FILE_CASES | ARGUMENT_CASES)[case]
    arguments = command.split()
    for name in arguments:
        if name in FILES:
            (folder / name).write_bytes(FILES[name])
    if arguments[0] == "train" and "--out" not in arguments:
        arguments += ["--out", "new/folder"]
    check(cli, folder, arguments, fragments)


def test_a_name_that_moves_the_cursor_does_not(cli, folder):
    name = "esc\x1b[2J\nape.csv"
    (folder / name).write_bytes(FILES[name])
    check(cli, folder, ["train", name], ["esc\\x1b[2J ape.csv: all labels are 'x'"])


@pytest.mark.parametrize("case", MODEL_CASES)
def test_model_folder(cli, folder, case):
    damage, fragments = MODEL_CASES[case]
    damage(folder / "model")
    (folder / "good.csv").write_bytes(FILES["good.csv"])
    check(cli, folder, ["predict", "model", "good.csv"], ["hyperagg: model", *fragments])


@pytest.mark.parametrize("case", NOT_A_MODEL_CASES)
def test_what_is_not_a_model(cli, folder, case):
    name, fragments = NOT_A_MODEL_CASES[case]
    (folder / "good.csv").write_bytes(FILES["good.csv"])
    answer = cli("evaluate", name, "good.csv")
    *before, last = answer.err.splitlines()
    assert answer.code == 2 and last.startswith("hyperagg: ")
    assert (
        before
        == [f"{name}: no such folder; looking for it on the Hugging Face Hub"][: "hub" in case]
    )
    assert all(fragment in last for fragment in fragments)


def test_an_empty_folder_of_the_users_stays(cli, folder):
    (folder / "good.csv").write_bytes(FILES["good.csv"])
    out = "new/../folder"
    arguments = ["train", "good.csv", "--out", out, "--learning-rate", "1e30"]
    check(cli, folder, arguments, ["learning_rate"])


def test_what_fails_leaves_an_older_model_as_it_was(cli, folder):
    (folder / "good.csv").write_bytes(FILES["good.csv"])
    arguments = ["train", "good.csv", "--out", "model", "--force", "--learning-rate", "1e30"]
    check(cli, folder, arguments, ["learning_rate"])


def test_a_checkpoint_of_a_run_without_hope_is_removed(cli, folder, monkeypatch):
    from hyperagg.classifier.training import loop

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    (folder / "good.csv").write_bytes(FILES["good.csv"])
    calls = []

    class Run(loop._Run):
        def end_epoch(self):
            super().end_epoch()
            calls.append(self.checkpoint.exists())
            if self.epoch == 3:
                self.model.embedding[:] = np.nan
                self.train_step.load_optimizer_state(self.train_step.optimizer_state())

    monkeypatch.setattr(loop, "_Run", Run)
    arguments = ["train", "good.csv", "--out", "new"]
    check(cli, folder, arguments, ["not finite in epoch 4"])
    assert calls == [False, True, True]


def test_no_command_at_all_shows_the_help(cli):
    answer = cli()
    assert answer.code == 2
    assert "Usage: hyperagg" in answer.out + answer.err


COMMANDS = [
    "",
    "compare",
    "train",
    "evaluate",
    "predict",
    "explain",
    "tune",
    "quantize",
    "convert",
    "lm train",
    "lm generate",
    "lm evaluate",
    "data",
    "data list",
    "data get",
    "data show",
]


@pytest.mark.parametrize("width", ["40", "200"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(cli, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", width)
    answer = cli(*command.split(), "--help")
    assert answer.code == 0
    assert f"Example: hyperagg {command}".rstrip() in " ".join(answer.out.split())
