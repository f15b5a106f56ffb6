"""hyperagg diffusion: training on images, generating a grid, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image

from hyperagg.data.datasets.digits import load_mnist

SMALL = ["--patch-size", 7, "--d-model", 16, "--layers", 1, "--heads", 1, "--batch-size", 8]


@pytest.fixture(scope="module")
def model(cli, tmp_path_factory):
    out = tmp_path_factory.mktemp("diffusion") / "model"
    done = cli("diffusion", "train", "mnist", "--out", out, *SMALL, "--steps", 20)
    assert done.code == 0, done.err
    return out


def test_training_writes_results(model):
    results = json.loads((model / "results.json").read_text())
    assert results["training_config"]["steps"] == 20 and results["loss"][-1][0] == 20
    modes = {path.stat().st_mode for path in model.rglob("*") if path.is_file()}
    assert len(modes) == 1  # another user may read all of them or none


def test_samples_of_one_class_and_an_animation(cli, model, tmp_path):
    png, gif = tmp_path / "threes.png", tmp_path / "threes.gif"
    options = ["--label", 3, "--number", 4, "--steps", 6, "--out", png]
    done = cli("diffusion", "sample", model, *options, "--gif", gif)
    assert done.code == 0, done.err
    assert done.err.splitlines() == [
        f"wrote 4 images to {png}",
        f"wrote the denoising steps to {gif}",
    ]
    with Image.open(png) as image:
        assert image.size == (116, 116)
    with Image.open(gif) as image:
        assert image.n_frames == 6
    again = tmp_path / "again.png"
    assert cli("diffusion", "sample", model, *options[:-1], again).code == 0
    assert again.read_bytes() == png.read_bytes()


def test_files_are_replaced_only_with_force(cli, model, tmp_path):
    png, gif = tmp_path / "all.png", tmp_path / "all.gif"
    for held, written in ((png, gif), (gif, png)):
        held.write_text("kept")
        options = ["--out", png, "--gif", gif, "--number", 2, "--steps", 2]
        refused = cli("diffusion", "sample", model, *options)
        assert refused.code == 2 and f"{held}: exists already; pass --force" in refused.err
        assert held.read_text() == "kept" and not written.exists()
        assert cli("diffusion", "sample", model, *options, "--force").code == 0
        assert held.stat().st_size > 100 and written.stat().st_size > 100
        png.unlink()
        gif.unlink()


@pytest.mark.parametrize("gif", ["all.gif", "./all.gif", "link.gif"])
def test_the_animation_does_not_replace_the_image(cli, model, tmp_path, monkeypatch, gif):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.gif").symlink_to("all.gif")
    options = ["--out", "all.gif", "--gif", gif, "--number", 2, "--steps", 2, "--force"]
    refused = cli("diffusion", "sample", model, *options)
    assert refused.code == 2 and "is the file of --out; expected another file" in refused.err
    assert not (tmp_path / "all.gif").exists()


def test_without_a_label_each_column_is_a_class(cli, model, tmp_path):
    png = tmp_path / "all.png"
    done = cli("diffusion", "sample", model, "--number", 20, "--steps", 2, "--out", png)
    assert done.code == 0
    with Image.open(png) as image:
        assert image.size == (580, 116)


def test_a_folder_of_images(cli, tmp_path):
    digits = load_mnist().test
    for i in range(8):
        folder = tmp_path / "images" / ("low" if digits.labels[i] < 5 else "high")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i]).save(folder / f"{i}.png")
    out = tmp_path / "model"
    done = cli("diffusion", "train", tmp_path / "images", "--out", out, *SMALL, "--steps", 2)
    assert done.code == 0, done.err
    done = cli("diffusion", "sample", out, "--label", "middle")
    assert done.code == 2 and "--label middle: expected one of high, low" in done.err


def test_a_model_is_replaced_only_with_force(cli, model):
    weights = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    for options in ((), ("--resume",)):
        refused = cli("diffusion", "train", "mnist", "--out", model, *SMALL, *options)
        assert refused.code == 2
        assert f"--out {model}: holds a model; give another folder" in refused.err
    assert {p.name: p.read_bytes() for p in model.iterdir() if p.is_file()} == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere"], "nowhere: "),
        (["train", "mnist", "--mixer", "sum"], 'expected one of "aggregation", "attention"'),
        (["train", "mnist", "--patch-size", 5], "patch_size=5: expected a divisor of sample_size"),
        (
            ["train", "mnist", "--learning-rate", 0],
            "learning_rate=0.0: expected a finite",
        ),
        (["sample", "nowhere"], "nowhere: no such folder; expected a folder that"),
        (["sample", "MODEL", "--out", "image.xyz"], "image.xyz: expected a file name that ends in"),
        (["sample", "MODEL", "--gif", "image.png"], "image.png: expected a file name that ends in"),
    ],
)
def test_errors_take_one_line_and_write_nothing(
    cli, model, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    done = cli("diffusion", *(model if each == "MODEL" else each for each in arguments))
    lines = done.err.strip().splitlines()
    assert done.code == 2 and message in lines[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["torch", "diffusers"])
@pytest.mark.parametrize("command", [["train", "mnist"], ["sample", "model"]])
def test_a_missing_package_is_one_line_that_names_the_extra(package, command, tmp_path):
    code = (
        f"import sys\nsys.modules[{package!r}] = None\n"
        f"sys.argv = ['hyperagg', 'diffusion', *{command}]\n"
        "from hyperagg.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    expected = f"hyperagg.diffusion requires {package}: pip install 'hyperagg[diffusion]'"
    assert done.returncode == 2 and done.stderr == f"hyperagg: {expected}\n"
