"""The study of a first job: a page of every command, its seconds and what it printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from research.studies import first_job
from research.studies.first_job import SKLEARN, STEPS, Step, first_job_page, first_job_table


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    if not Path(os.environ.get("HYPERAGG_DATA", ""), "clothing-reviews").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no clothing-reviews")
    with pytest.MonkeyPatch.context() as patch:
        few = [step for step in STEPS if step.command.split()[1] in ("train", "evaluate")][:2]
        patch.setattr(first_job, "STEPS", tuple(few))
        out = tmp_path_factory.mktemp("job")
        return first_job.measure_first_job(out, rows=300, test_rows=60)


def test_every_command_is_timed_and_its_output_kept(results: dict) -> None:
    commands = [run["command"] for run in results["steps"]]
    assert commands[-1] == SKLEARN.command
    assert all(run["seconds"] > 0 for run in results["steps"])
    assert any("accuracy" in line for line in results["steps"][1]["output"])
    assert any("rating: R²" in line for line in results["steps"][-1]["output"])


def test_the_page_holds_every_command(results: dict) -> None:
    page = first_job_page(results)
    assert first_job_table(results) in page
    for run in results["steps"]:
        assert f"$ {run['command']}" in page


def test_a_failing_command_is_named_with_its_output(tmp_path: Path) -> None:
    step = Step("fail", "hyperagg train missing.csv")
    with pytest.raises(
        RuntimeError, match=r"hyperagg train missing\.csv: exit code 2.*\n.*missing"
    ):
        first_job._run(step, [sys.executable, "-m", "hyperagg", "train", "missing.csv"], tmp_path)


def test_a_long_output_keeps_its_beginning_and_its_end() -> None:
    lines = [str(i) for i in range(100)]
    shown = first_job._shorten(lines, 9)
    assert shown == ["0", "1", "2", "...", "95", "96", "97", "98", "99"]
    assert first_job._shorten(lines[:9], 9) == lines[:9]
