"""The code of docs/language-models.md runs, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hyperagg.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "language-models.md"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_code_runs_with_a_model_of_lm_train(tmp_path, monkeypatch, capsys):
    for package in ("onnx", "onnxruntime", "peft"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("Oil prices rose\nGold prices fell\n" * 20, "utf-8")
    small = "--layers 1 --d-model 16 --vocab-size 300 --sequence-length 16 --max-steps 2"
    for command in (
        f"lm train texts.txt --out headlines {small}",
        "lm export headlines headlines.onnx",
    ):
        ran = CliRunner().invoke(app, command.split())
        assert ran.exit_code == 0, ran.output
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), {})
    printed = capsys.readouterr().out
    assert "trainable params: " in printed  # of LoRA
    assert printed.splitlines()[-1].startswith("Oil prices")  # of the ONNX graph
    assert Path("merged/model.safetensors").exists()
