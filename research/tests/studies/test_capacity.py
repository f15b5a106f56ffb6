"""The grid of retrievals: its files, and that an interruption changes nothing."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from research.cli import app
from research.studies import capacity
from research.studies.capacity import retrieval

SMALL = dict(dimensions=[32, 512], lengths=[4, 16, 64], retrievals=256)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(capacity, "VOCABULARIES", (16, 1024))
    real = capacity.train
    monkeypatch.setattr(capacity, "train", lambda *a, **k: real(*a, **k, steps=3))


@pytest.fixture
def study(tmp_path):
    return retrieval(tmp_path / "whole", **SMALL), tmp_path / "whole"


def test_files_and_results(study):
    results, out = study
    assert json.loads((out / "results.json").read_text())["kinds"] == results["kinds"]
    signs = results["kinds"]["random signs"]
    assert signs["dimensions"] == [32, 512] and signs["lengths"] == [4, 16, 64]
    assert signs["difference"] < 0.03
    measured, predicted = (signs["frontiers"]["0.5"][name][1] for name in ("measured", "predicted"))
    assert measured == pytest.approx(predicted, rel=0.1)
    assert results["kinds"]["trained"]["dimensions"] == [32]
    assert list(results["vocabularies"]) == [16, 1024]
    for name in ("table.md", "agreement.md", "vocabulary.md"):
        assert (out / name).read_text().startswith("| ")
    assert (out / "capacity.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_study_resumes_to_the_same_figures(study, tmp_path, monkeypatch):
    results, _ = study
    done = []

    def stop(point, *args):
        if len(done) == 15:
            raise KeyboardInterrupt
        done.append(point)
        return real(point, *args)

    real = capacity._measured
    monkeypatch.setattr(capacity, "_measured", stop)
    with pytest.raises(KeyboardInterrupt):
        retrieval(tmp_path / "cut", **SMALL)
    monkeypatch.setattr(capacity, "_measured", real)
    again = retrieval(tmp_path / "cut", **SMALL, resume=True)
    assert again["kinds"] == results["kinds"]
    assert again["vocabularies"] == results["vocabularies"]
    with pytest.raises(ValueError, match="another study"):
        retrieval(tmp_path / "cut", **SMALL | {"retrievals": 128}, resume=True)


def test_invalid_grids(tmp_path):
    with pytest.raises(ValueError, match=r"lengths=\[1\]: expected integers >= 4"):
        retrieval(tmp_path, dimensions=[32], lengths=[1])
    arguments = ["study", "capacity", "--dimensions", "a few", "--out", str(tmp_path / "out")]
    answer = CliRunner().invoke(app, arguments)
    assert "--dimensions a few: expected integers >= 1" in str(answer.exception)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path):
    arguments = "study capacity --part retrieval --dimensions 32 --lengths 4,8 --out"
    answer = CliRunner().invoke(app, [*arguments.split(), str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert "| random signs |" in answer.output
