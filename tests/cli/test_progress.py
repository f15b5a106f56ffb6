"""What the commands that train write to a log, a standard error that is not a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import typer

from hyperagg.cli import app

# As if every update came after the time between two lines.
PROGRAM = """
import hyperagg._common.progress as progress
from hyperagg.cli import main
progress.SECONDS_BETWEEN_LINES = 0.0
main()
"""
TIMES = r", \d:\d\d:\d\d elapsed(, \d:\d\d:\d\d left)?"
FILMS = [("dull", 1, "bad"), ("fine", 5, "good")]
TRAINING = {
    "train": (
        "train films.csv --d-model 4 --epochs 3",
        r"training: epoch 2/3  loss [\d.]+  validation accuracy [\d.]+ %  [\d.]+ [kM] tokens/s",
    ),
    "tune": (
        "tune films.csv --trials 2 --time-limit 3000",
        r"tuning: 2 trials, best [\d.]+ %",
    ),
    "compare": (
        "compare films.csv --baselines words --epochs 3",
        r"training: epoch 2/3  loss [\d.]+  .*tokens/s",
    ),
    "multimodal train": (
        "train films.csv --text text --number price --epochs 3",
        r"training: epoch 2/3  loss [\d.]+  validation [\d.]+",
    ),
    "lm train": (
        "lm train films.csv --text text --max-steps 10 --layers 1 --d-model 8 --tokenizer words "
        "--sequence-length 8",
        r"training: step 9/10  loss [\d.]+  [\d,]+ tokens/s",
    ),
    "diffusion train": (
        "diffusion train images --steps 10 --d-model 8 --layers 1",
        r"training: step 9/10  loss [\d.]+",
    ),
}


@pytest.fixture
def files(tmp_path):
    """A folder with films: texts, labels and prices."""
    rows = [f"a {word} film,{price},{label}" for word, price, label in FILMS * 20]
    (tmp_path / "films.csv").write_text("\n".join(["text,price,label", *rows]), "utf-8")
    return tmp_path


def write_images(folder):
    """Images of two classes."""
    image = pytest.importorskip("PIL.Image", reason="needs pip install pillow")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(256, size=(8, 8), dtype=np.uint8)
            image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.mark.parametrize("name", TRAINING)
def test_a_log_gets_lines_unless_the_command_is_quiet(files, name):
    if name.split()[0] in ("multimodal", "lm", "diffusion"):
        pytest.importorskip("torch", reason="needs PyTorch")
    if name == "tune":
        pytest.importorskip("optuna", reason="pip install 'hyperagg[tune]'")
    if name == "diffusion train":
        write_images(files / "images")
    arguments, line = TRAINING[name]
    for quiet in ([], ["--quiet"]):
        command = [sys.executable, "-c", PROGRAM, *arguments.split(), *quiet]
        with (files / "log").open("wb") as log:
            done = subprocess.run(
                [*command, "--out", f"model{len(quiet)}"],
                cwd=files,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=log,
                timeout=600,
            )
        text = (files / "log").read_text("utf-8")
        assert done.returncode == 0, text
        assert "\r" not in text and "\x1b" not in text
        found = [one for one in text.splitlines() if re.search(TIMES, one)]
        if quiet:
            assert not found
        else:
            assert any(re.fullmatch(line + TIMES, one) for one in found), text


def test_every_command_that_trains_can_be_quiet():
    group = typer.main.get_command(app)
    for name in TRAINING:
        command = group
        for part in name.removeprefix("multimodal ").split():
            command = command.commands[part]
        assert "--quiet" in [option for one in command.params for option in one.opts]
