"""A study resumes from the runs that it completed."""

from __future__ import annotations

import json

import pytest

from hyperagg._common.runs import Runs, _digest


def test_completed_runs_are_kept(tmp_path):
    path = tmp_path / "runs.json"
    Runs(path, "study", resume=True).add("a", {"accuracy": 0.5})
    assert Runs(path, "study", resume=True).done == {"a": {"accuracy": 0.5}}
    assert Runs(path, "study", resume=False).done == {}


def test_the_environment_has_the_commits_of_all_runs_that_count(tmp_path, monkeypatch):
    path = tmp_path / "runs.json"
    for commit in (None, "abc", "def"):
        origin = {"commit": commit, "processor": "a processor", "python": "3"}
        monkeypatch.setattr("hyperagg._common.runs.environment", origin.copy)
        runs = Runs(path, "study", resume=True)
        runs.add(f"{commit}", {})
    assert runs.environment(["abc", "def"]) == {**origin, "commit": "abc, def"}
    assert runs.environment(["def"]) == runs.environment([]) == origin
    assert runs.environment()["commit"] == "not recorded, abc, def"
    assert runs.environment(["None"])["commit"] is None


def test_runs_of_another_study_are_refused(tmp_path):
    path = tmp_path / "runs.json"
    Runs(path, "study", resume=False).add("a", {})
    with pytest.raises(ValueError, match=r"runs\.json: has the runs of another study \(study\)"):
        Runs(path, "other", resume=True)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"study": "study", "runs": 3}',
        '{"study": "study", "runs": {"a": 3}}',
        '{"study": "study", "runs": {"a": {}}, "origins": {}}',
        "[" * 100_000,
    ],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "runs.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"runs\.json: not a file of runs"):
        Runs(path, "study", resume=True)


def test_a_file_of_another_structure_is_refused_although_its_digest_is_right(tmp_path):
    path = tmp_path / "runs.json"
    for saved in ({}, {"study": "s", "runs": [], "origins": {}}, {"study": "s", "runs": {"a": {}}}):
        path.write_text(json.dumps({**saved, "digest": _digest(saved)}))
        with pytest.raises(ValueError, match=r"runs\.json: not a file of runs"):
            Runs(path, "s", resume=True)


@pytest.mark.parametrize(("old", "new"), [("0.5", "null"), ('"accuracy"', '"f1"'), ('"a"', '"b"')])
def test_runs_that_were_changed_are_refused(tmp_path, old, new):
    """A study that resumed from them ended with a traceback."""
    path = tmp_path / "runs.json"
    Runs(path, "study", resume=False).add("a", {"accuracy": 0.5})
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"runs\.json: not a file of runs, or damaged; remove it"):
        Runs(path, "study", resume=True)
