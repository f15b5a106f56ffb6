"""The code of docs/serving.md runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from starlette.testclient import TestClient

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "serving.md").read_text("utf-8")


def test_the_code_of_the_page_runs(url, folder, predictor, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    client, application = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(client.replace("http://127.0.0.1:8000", url), {})
    assert capsys.readouterr().out.split()[0] == predictor.predict("Wheat and corn shipments rose")
    namespace: dict[str, object] = {"__name__": "page"}
    exec(compile(application, "serving.md", "exec", dont_inherit=True), namespace)
    with TestClient(namespace["app"]) as app:  # type: ignore[arg-type]
        assert app.get("/about").json() == {"model": "newswires"}
        assert app.get("/info").json()["max_client_batch_size"] == 100


def test_the_options_of_the_page_exist():
    from typer.testing import CliRunner

    from hyperagg.cli import app

    wide = {"COLUMNS": "200", "TERM": "dumb"}
    shown = CliRunner().invoke(app, ["serve", "--help"], env=wide).output
    for option in re.findall(r"`(--[a-z-]+)", TEXT):
        assert option in shown


def test_what_is_copied_into_the_image_exists():
    for line in (ROOT / "deploy" / "Containerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1])
