"""hyperagg diffusion: from digits to a grid of drawn ones, and errors in a line."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from hyperagg.data.datasets.digits import load_mnist

SMALL = ["--patch-size", 7, "--d-model", 16, "--layers", 1, "--heads", 1, "--batch-size", 8]


@pytest.fixture(scope="module")
def model(cli, tmp_path_factory):
    out = tmp_path_factory.mktemp("diffusion") / "model"
    ran = cli("diffusion", "train", "mnist", "--out", out, *SMALL, "--steps", 20)
    assert ran.code == 0, ran.err
    return out


def test_it_trains_and_draws(cli, model, tmp_path):
    results = json.loads((model / "results.json").read_text())
    assert results["recipe"]["steps"] == 20 and results["loss"][-1][0] == 20
    picture, gif = tmp_path / "threes.png", tmp_path / "threes.gif"
    options = ["--label", 3, "--number", 4, "--steps", 6, "--out", picture]
    ran = cli("diffusion", "sample", model, *options, "--gif", gif)
    assert ran.code == 0, ran.err
    with Image.open(picture) as image:
        assert image.size == (116, 116)
    with Image.open(gif) as image:
        assert image.n_frames == 6
    again = tmp_path / "again.png"
    assert cli("diffusion", "sample", model, *options[:-1], again).code == 0
    assert again.read_bytes() == picture.read_bytes()
    # Without a label all classes in turn, a column each.
    ran = cli("diffusion", "sample", model, "--number", 20, "--steps", 2, "--out", picture)
    assert ran.code == 0
    with Image.open(picture) as image:
        assert image.size == (580, 116)


def test_pictures_of_ones_own(cli, tmp_path):
    digits = load_mnist().test
    for i in range(8):
        folder = tmp_path / "pictures" / ("low" if digits.labels[i] < 5 else "high")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i]).save(folder / f"{i}.png")
    out = tmp_path / "model"
    ran = cli("diffusion", "train", tmp_path / "pictures", "--out", out, *SMALL, "--steps", 2)
    assert ran.code == 0, ran.err
    ran = cli("diffusion", "sample", out, "--label", "middle")
    assert ran.code == 2 and "--label middle:" in ran.err and "knows high, low" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nowhere"], "nowhere: there is no such folder of pictures"),
        (["train", "mnist", "--mixer", "sum"], "mixer='sum': there are aggregation, attention"),
        (["train", "mnist", "--patch-size", 5], "patch_size=5: must divide sample_size=28"),
        (["train", "mnist", "--learning-rate", 0], "learning_rate=0.0: give a number above 0"),
        (["sample", "nowhere"], "nowhere: there is no such folder; name one that"),
        (["sample", "MODEL", "--out", "picture.xyz"], "picture.xyz: its ending names no format"),
        (["sample", "MODEL", "--gif", "picture.png"], "picture.png: an animation is a GIF"),
    ],
)
def test_one_line(cli, model, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    ran = cli("diffusion", *(model if each == "MODEL" else each for each in arguments))
    lines = ran.err.strip().splitlines()
    assert ran.code == 2 and said in lines[-1]
    assert not list(tmp_path.iterdir())
