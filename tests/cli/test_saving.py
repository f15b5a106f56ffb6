"""A model that cannot be saved where it was asked for is saved elsewhere, which the line says."""

from __future__ import annotations

import errno
import importlib
import os
import re
import tempfile
from pathlib import Path

import pytest

from hyperagg import TextClassifier

ROWS = ["a fine film,1,good", "a dull film,2,bad"] * 20


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("\n".join(["text,stars,label", *ROWS]), "utf-8")
    return path


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("torch", ("train", "--number", "stars", "--epochs", 1)),
        ("optuna", ("tune", "--time-limit", 3000, "--trials", 1)),
    ],
    ids=["multimodal", "tune"],
)
def test_a_full_disk_does_not_lose_a_training(
    cli, table, tmp_path, monkeypatch, package, arguments
):
    pytest.importorskip(package)
    model = TextClassifier
    if package == "torch":
        model = importlib.import_module("hyperagg.multimodal").MultimodalClassifier
    out, save = tmp_path / "model", model.save_pretrained

    def fail(self, folder):
        if Path(folder) == out:
            file = str(out / "model.safetensors")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)
        save(self, folder)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(model, "save_pretrained", fail)
    command, *options = arguments
    answer = cli(command, table, *options, "--out", out)
    assert answer.code == 2 and not out.exists()
    found = re.fullmatch(
        rf"hyperagg: {out}/model\.safetensors: No space left on device; the model is in (\S+) "
        "instead",
        answer.err.splitlines()[-1],
    )
    assert found is not None, answer.err
    assert Path(found[1]).parent == tmp_path
    assert cli("predict", found[1], table).out.split() == ["good", "bad"] * 20


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("text,label\na,x\nb,x\n", (), "{file}: all labels are 'x'; expected at least two classes"),
        ("text,label\na,x\nb,y\n", (), "2 texts; expected at least 5 of a class, so that some can"),
        ("text,label\na,x\nb,y\n", ("--time-limit", "nan"), "--time-limit=nan: expected a finite"),
        ("text,label\na,x\nb,y\n", ("--max-size-mb", "0"), "--max-size-mb=0.0: expected a finite"),
        ("text,label\na,x\nb,\n", (), "{file}: row 2 (line 3)"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(cli, tmp_path, content, options, message):
    pytest.importorskip("optuna")
    file, out = tmp_path / "rows.csv", tmp_path / "model"
    file.write_text(content, "utf-8")
    answer = cli("tune", file, "--time-limit", 60, *options, "--out", out)
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert answer.err.startswith(f"hyperagg: {message.format(file=file)}")
    assert not out.exists()
