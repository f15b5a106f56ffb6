"""hyperagg data list, get and show."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hyperagg.cli.data import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with one data set, whose texts hold markup and control characters."""
    monkeypatch.setenv("HYPERAGG_DATA", str(tmp_path))
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = {"text": ["[bold]oil[/] \x1b[2J rose", "gold\nfell", "tin"], "label": ["x", "y", "x"]}
    for split in ("train", "test"):
        pq.write_table(pa.table(rows), folder / f"{split}.parquet")


def run(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_list_has_every_name_and_its_location() -> None:
    output = run("list")
    for name in ("r8", "r52", "20ng", "reuters", "ag-news", "mine"):
        assert name in output
    assert "HYPERAGG_DATA" in output


def test_get_prints_source_and_rows() -> None:
    output = run("get", "mine")
    assert "train 3, test 3" in output
    assert "source: HYPERAGG_DATA=" in output


def test_show_prints_rows_and_class_counts_as_plain_text() -> None:
    output = run("show", "mine", "--rows", "2")
    assert "[bold]oil[/]" in output
    assert "gold fell" in output
    assert "tin" not in output
    assert "\x1b" not in output
    assert "first training rows" not in run("show", "mine", "--rows", "0")


def test_unknown_name_is_a_value_error() -> None:
    result = runner.invoke(app, ["show", "mime"])
    assert isinstance(result.exception, ValueError)
    assert "did you mean mine" in str(result.exception)


@pytest.mark.parametrize("command", ["list", "get", "show"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: hyperagg data {command}" in run(command, "--help")
